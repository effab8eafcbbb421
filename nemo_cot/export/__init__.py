"""What leaves a run: the traces as a data set, and the model, each with a card made of the manifests."""

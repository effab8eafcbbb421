"""What the two NeMo backends share: layouts, memory, rules, conversion. No backend of its own."""

#!/bin/sh
# finish.sh TARGET BASE USER_ID GROUP_ID: create the user unless it is root, write the image's identity, and check that
# the image holds what it promises. VERSION, REVISION, SOURCE and BUILD_ID come from the environment.
set -eu
target=$1
base=$2
user=$3
group=$4
python=/opt/nemo-cot/venv/bin/python

case "$user$group" in *[!0-9]*)
	echo "error: USER_ID=$user GROUP_ID=$group: not numbers" >&2
	exit 2
	;;
esac
if [ "$user" != 0 ]; then
	getent group "$group" >/dev/null || groupadd --gid "$group" nemo-cot
	getent passwd "$user" >/dev/null || useradd --uid "$user" --gid "$group" --create-home --shell /bin/sh nemo-cot
fi
"$python" -m nemo_cot.launchers.image_smoke identify target="$target" base="$base" version="$VERSION" \
	revision="$REVISION" source="$SOURCE" build_id="$BUILD_ID"
"$python" -m nemo_cot.launchers.image_smoke --installed-only

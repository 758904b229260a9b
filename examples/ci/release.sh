#!/usr/bin/env bash
# One release as a pipeline makes it: check, build, gate, build again byte for byte, compare, sign, publish.
# Whatever fails ends the script with the status of the command that failed; junit.xml and summary.md are there then too.
#
#   NAME VERSION COUNTER   of the release
#   DATA                   folder with model.onnx, calibration.npz and evaluation.npz
#   PROFILES               boards, separated by spaces
#   OUT                    new folder for the release and its evidence
#   PIPELINE_KEY           file of the key that may sign releases of this model
#   FLEET OUTRIDER_TOKEN   address of the fleet server, and the pipeline's token for it
#   LAST                   the last release's folder; empty for the first release
set -euo pipefail
: "${NAME:?}" "${VERSION:?}" "${COUNTER:?}" "${DATA:?}" "${PROFILES:?}" "${OUT:?}" "${PIPELINE_KEY:?}" "${FLEET:?}" "${OUTRIDER_TOKEN:?}"

boards=()
for profile in $PROFILES; do boards+=(--profile "$profile"); done
mkdir -p "$OUT"

build() {
    outrider-compiler build "$DATA/model.onnx" --name "$NAME" --version "$VERSION" --counter "$COUNTER" "${boards[@]}" \
        --calibration "$DATA/calibration.npz" --evaluation "$DATA/evaluation.npz" --embedding embedding --slices site "$@"
}

echo "== check: can the boards run it at all?"
outrider-compiler check "$DATA/model.onnx" "${boards[@]}"

echo "== build: candidates, figures, gate, choice"
build --out "$OUT/release" --junit "$OUT/junit.xml" --markdown "$OUT/summary.md" --json > "$OUT/build.json"

echo "== rebuild: the lock gives the same bytes"
build --out "$OUT/again" --locked "$OUT/release/outrider.lock" > /dev/null
diff -r "$OUT/release" "$OUT/again"
rm -r "$OUT/again"

if [ -n "${LAST:-}" ]; then
    echo "== compare: is it worse than what runs now?"
    outrider-compiler compare "$LAST" "$OUT/release" --fail-on-worse --markdown "$OUT/comparison.md"
fi

echo "== sign: the model's role, as the server has it, lists this release too"
outrider-compiler sign "$OUT/release" --key "$PIPELINE_KEY" --server "$FLEET" --out "$OUT/role.json"

echo "== publish"
outrider-compiler publish "$OUT/release" --server "$FLEET" --metadata "$OUT/role.json"

#!/usr/bin/env bash
# Makes the weights that ship, from nothing but photos without labels:
#
#     tools/reproduce_weights.sh PHOTOS WORK
#
# PHOTOS holds hands_dataset/ (SubhiH/HandsDataset) and sign_digits/ (ardamavi/Sign-Language-Digits-Dataset), both Apache-2.0. WORK receives
# labels, shards and runs (about 2 GB). The labels need an environment with mediapipe 0.10.21, which wants numpy < 2: it is made in WORK. Every step is
# skipped if its result is there, and every training goes on where it stopped. On two cores it takes about four hours.
set -euo pipefail
photos=$(realpath "$1")
mkdir -p "$2"
work=$(realpath "$2")
cd "$(dirname "$0")/.."
bin=.venv/bin
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE

if [ ! -f "$work/labels.npz" ]; then
    python3 -m venv "$work/mediapipe"
    "$work/mediapipe/bin/pip" install --quiet mediapipe==0.10.21
    "$work/mediapipe/bin/python" tools/label_photos.py "$photos" "$work/labels.npz"
fi
[ -d "$work/real" ] || $bin/python tools/make_real_shards.py "$photos" "$work/labels.npz" "$work/real"
[ -d "$work/photos" ] || $bin/python tools/make_detector_shards.py "$photos" "$work/labels.npz" "$work/photos"
$bin/twohands synth --out "$work/close" --seed 11 --count 16000 --framing close --workers 2 --backgrounds "$photos/hands_dataset"
$bin/twohands synth --out "$work/wide" --seed 21 --count 2000 --framing wide --workers 2 --backgrounds "$photos/hands_dataset"
$bin/twohands train detector --shards "$work/wide" "$work/photos" "$work/close" --mixture 0.33 0.5 0.17 --out "$work/detector"
$bin/twohands train regressor --shards "$work/close" "$work/real" --mixture 0.7 0.3 --out "$work/regressor64"
$bin/twohands train regressor --shards "$work/close" "$work/real" --mixture 0.7 0.3 --out "$work/regressor" --experiment small-sharp --steps 1400 \
    --start-from "$work/regressor64/regressor.safetensors"
# Stage 2 learns from what an early stage 1 gets wrong: the first of its two trainings.
$bin/twohands train refiner --out "$work/refiner" --regressor "$work/regressor64/regressor.safetensors" --workers 2
cp "$work"/detector/detector.safetensors "$work"/regressor/regressor.safetensors "$work"/refiner/refiner.safetensors src/twohands/weights/

#!/usr/bin/env bash
# Makes the weights that ship, from photos without labels and two networks to begin with:
#
#     tools/reproduce_weights.sh PHOTOS WORK [BACKGROUNDS]
#
# PHOTOS holds hands_dataset/ (SubhiH/HandsDataset) and sign_digits/ (ardamavi/Sign-Language-Digits-Dataset), both Apache-2.0. WORK receives
# labels, shards and runs (about 4 GB). BACKGROUNDS are pictures without hands, made by tools/make_backgrounds.py; without them scenes have walls and
# pieces of PHOTOS behind. The labels need an environment with mediapipe 0.10.21, which wants numpy < 2: it is made in WORK. Every step is
# skipped if its result is there, and every training goes on where it stopped. On two idle cores it takes some hours.
set -euo pipefail
photos=$(realpath "$1")
mkdir -p "$2"
work=$(realpath "$2")
backgrounds=${3:+$(realpath "$3")}
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
[ -d "$work/real-doubled" ] || $bin/python tools/make_doubled_shards.py "$work/real" "$work/real-doubled" --count 10000 --seed 1
[ -d "$work/photos-doubled" ] || $bin/python tools/make_doubled_shards.py "$work/photos" "$work/photos-doubled" --count 4000 --seed 2 --hold-back 200
behind=(--borders "$photos" ${backgrounds:+--backgrounds "$backgrounds"})
[ -d "$work/real-alone" ] || $bin/python tools/make_doubled_shards.py "$work/real" "$work/real-alone" --count 8000 --seed 3 --alone "${behind[@]}"
[ -d "$work/photos-alone" ] || $bin/python tools/make_doubled_shards.py "$work/photos" "$work/photos-alone" --count 3000 --seed 4 --hold-back 200 --alone "${behind[@]}"
$bin/twohands synth --out "$work/close" --seed 11 --count 20000 --framing close --workers 2 "${behind[@]}"
$bin/twohands synth --out "$work/clasped" --seed 70 --count 20000 --framing clasped --workers 2 "${behind[@]}"
$bin/twohands synth --out "$work/wide" --seed 40 --count 8000 --framing wide --workers 2 "${behind[@]}"
$bin/twohands synth --out "$work/ego" --seed 60 --count 5000 --framing ego --share held 0.4 --share glove 0.1 --workers 2 "${behind[@]}"
$bin/twohands synth --out "$work/held" --seed 61 --count 8000 --framing close --share held 0.8 --share occluder 0.25 --workers 2 "${behind[@]}"
$bin/twohands synth --out "$work/gloves" --seed 62 --count 3000 --framing wide --share glove 0.6 --workers 2 "${behind[@]}"
$bin/twohands teachers install --folder "$work/trunks" --trunks
$bin/twohands train detector --shards "$work/photos" "$work/photos-doubled" "$work/photos-alone" "$work/real-doubled" "$work/real-alone" "$work/wide" "$work/ego" "$work/gloves" "$work/held" "$work/close" "$work/clasped" \
    --mixture 0.15 0.1 0.1 0.1 0.1 0.22 0.05 0.03 0.03 0.02 0.1 --out "$work/detector" --steps 11000 --trunk "$work/trunks/palm_detection_full.tflite"
# Stage 1 learns to deny what the detector takes for a hand. Without a teacher's word photos are left out: their labels may miss hands; and clasped
# hands: beside them it learnt to deny the hidden one.
$bin/twohands train false-alarms --shards "$work/wide" "$work/ego" "$work/gloves" --weights "$work/detector/detector.safetensors"
$bin/twohands train regressor --shards "$work/close" "$work/clasped" "$work/real" "$work/real-doubled" "$work/real-alone" "$work/wide" "$work/ego" "$work/gloves" "$work/held" \
    --mixture 0.16 0.2 0.1 0.15 0.15 0.1 0.05 0.03 0.06 \
    --out "$work/regressor" --steps 12000 --trunk "$work/trunks/hand_landmark_full.tflite"
# Stage 2 learns from what an early stage 1 gets wrong, and the final one: the more pairs of hands there are, each in a photo of its own, the less it
# learns them by heart.
$bin/twohands train regressor --shards "$work/close" "$work/real" --mixture 0.65 0.35 --out "$work/early" --steps 600 \
    --trunk "$work/trunks/hand_landmark_full.tflite"
$bin/twohands train refiner --out "$work/refiner" --workers 2 --pairs 93000 --photos 76500 --steps 70000 \
    --regressors "$work/early/regressor.safetensors" "$work/regressor/regressor.safetensors"
cp "$work"/detector/detector.safetensors "$work"/regressor/regressor.safetensors "$work"/refiner/refiner.safetensors src/twohands/weights/

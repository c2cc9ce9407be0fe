#!/usr/bin/env bash
# Builds the wheel, installs it in a new environment with its required dependencies, no extras, and
# trains and explains from another directory. The versions are the locked ones, which uv has cached
# since it made .venv: it links them and downloads nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
uv=$PWD/.venv/bin/uv
python=$work/venv/bin/python

"$uv" build --quiet --wheel --out-dir "$work/wheels"
"$uv" venv --quiet --python .venv/bin/python "$work/venv"
"$uv" pip install --quiet --python "$python" --constraint requirements.lock "$work"/wheels/*.whl

mkdir "$work/elsewhere" && cd "$work/elsewhere"
export OMP_NUM_THREADS=1
unset PYTHONPATH
found=$("$python" -c "import saliency_vae; print(saliency_vae.__file__)")
[[ $found == "$work/venv/"* ]] || { echo "error: Expected the wheel's package. Found $found."; exit 1; }
"$python" -m saliency_vae.train experiment=cluttered_digits trainer.max_epochs=1 logger=csv \
    data.image_size=32 data.train_size=64 data.val_size=16 data.test_size=8 data.batch_size=16 \
    classifier.train_size=64 classifier.epochs=1 'encoder.channels=[4,8]' hydra.run.dir=run
"$python" -c "from PIL import Image; Image.effect_noise((32, 32), 90).convert('RGB').save('a.png')"
"$python" -m saliency_vae.explain explainer=run images=a.png output_dir=own
"$python" -m saliency_vae.explain images=a.png output_dir=universal classifier=cluttered_digits \
    classifier.image_size=32 classifier.train_size=64 classifier.epochs=1
for file in own/a.png.panel.jpg universal/a.png.panel.jpg own/index.html run/explainer/classifier.safetensors; do
    [[ -s $file ]] || { echo "error: Expected $file. Found none."; exit 1; }
done
for script in "$work"/venv/bin/saliency-vae*; do
    [[ ! -x $script ]] || "$script" --help > /dev/null
done
echo "The wheel trains and explains from another directory."

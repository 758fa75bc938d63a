#!/usr/bin/env bash
# Measure what needs a GPU, and write it to benchmarks/results/<gpu>.md. Each subcommand has a
# section there, which it replaces when it is run again. It takes less than 10 minutes and needs no
# network.
#
#   benchmarks/gpu.sh tests     run the CUDA tests; those of densification under compute-sanitizer
#   benchmarks/gpu.sh kernels   time densification and rendering
#   benchmarks/gpu.sh step      time a step beyond the passes through its networks, for every method
#                               and for networks of real size with random weights
#   benchmarks/gpu.sh job       run configs/esd.yaml from start to end
#
# PYTHON     an interpreter with a CUDA build of torch (default: python3)
# WHEELS     a folder with wheels of missing packages, including gsplat (default: wheels)
# GSPLAT_SO  gsplat's CUDA extension, built for the same Python and torch; without it gsplat builds
#            the extension, which takes minutes
# RESULTS    the folder of the page (default: benchmarks/results)
# WEIGHTS    the folder of random weights of real size, which later calls use again
#            (default: build/gpu-weights)
# SITE       the folder to install into, which later calls use again (default: build/gpu)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON=${PYTHON:-python3}
WHEELS=${WHEELS:-wheels}
GSPLAT_SO=${GSPLAT_SO:-}
RESULTS=${RESULTS:-benchmarks/results}
WEIGHTS=$(realpath -m "${WEIGHTS:-build/gpu-weights}")
SITE=$(realpath -m "${SITE:-build/gpu}")

missing() {
  echo "gpu.sh: missing: $*" >&2
  exit 2
}

look() {
  command -v "$PYTHON" >/dev/null || missing "$PYTHON (set PYTHON)"
  gpu=$("$PYTHON" -c 'import torch; print(torch.cuda.get_device_name())' 2>/dev/null) ||
    missing "a GPU that torch of $PYTHON can use"
  command -v nvidia-smi >/dev/null || missing "nvidia-smi on the PATH"
  # CUDA_HOME and the like, of the toolkit that setup.py and gsplat's build take too.
  toolkit=$("$PYTHON" -m esd_splat.cuda_toolkit "$("$PYTHON" -c \
    'import torch; print(torch.version.cuda)')") || missing "a CUDA toolkit"
  eval "$toolkit"
  if [[ $1 == tests ]]; then
    command -v compute-sanitizer >/dev/null || missing "compute-sanitizer on the PATH"
  fi
}

# Install the wheels into $SITE, gsplat's extension as the module gsplat.csrc, for which gsplat
# looks before it compiles one, and our kernels beside the sources.
install() {
  export PYTHONPATH="$SITE${PYTHONPATH:+:$PYTHONPATH}" PATH="$SITE/bin:$PATH"
  if [[ ! -d $SITE ]] && compgen -G "$WHEELS/*.whl" >/dev/null; then
    "$PYTHON" -m pip install --quiet --no-index --no-deps --target "$SITE" "$WHEELS"/*.whl
  fi
  local lacking
  lacking=$("$PYTHON" - <<'PY'
from importlib.util import find_spec

names = """beartype diffusers filelock gsplat hypothesis imageio imageio_ffmpeg importlib_metadata
jaxtyping jinja2 lightning matplotlib ninja numpy omegaconf packaging peft PIL plyfile pydantic
pytest rich safetensors setuptools tensorboard tqdm transformers"""
print(*(name for name in names.split() if find_spec(name) is None))
PY
  )
  [[ -z $lacking ]] || missing "Python packages, from $WHEELS or elsewhere: $lacking"
  rm -f "$SITE/gsplat/csrc.py"
  if [[ -n $GSPLAT_SO ]]; then
    [[ -f $GSPLAT_SO ]] || missing "$GSPLAT_SO (GSPLAT_SO)"
    if [[ ! -d $SITE/gsplat ]]; then
      mkdir -p "$SITE"
      cp -r "$("$PYTHON" -c 'import gsplat; print(*gsplat.__path__)')" "$SITE/gsplat"
    fi
    cat >"$SITE/gsplat/csrc.py" <<PY
import importlib.util, sys
import torch  # loads the libraries that the extension is linked to

spec = importlib.util.spec_from_file_location("gsplat_cuda", "$(realpath "$GSPLAT_SO")")
sys.modules[__name__] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules[__name__])
PY
    "$PYTHON" -c 'import gsplat.csrc' 2>/dev/null ||
      missing "a GSPLAT_SO for this Python and torch: $GSPLAT_SO does not load"
  fi
  TORCH_CUDA_ARCH_LIST=$("$PYTHON" -c \
    'import torch; print("{}.{}".format(*torch.cuda.get_device_capability()))')
  export TORCH_CUDA_ARCH_LIST TORCH_EXTENSIONS_DIR=$SITE/build MAX_JOBS=${MAX_JOBS:-$(nproc)}
  "$PYTHON" -c 'from gsplat.cuda._backend import _C; assert _C, "gsplat found no CUDA kernels"'
  ESD_SPLAT_BUILD=cuda "$PYTHON" setup.py --quiet build_ext --inplace
}

# record SECONDS LINES COMMAND...: run the command with a time limit, and add its tables, or else
# its last lines, to the section.
record() {
  local seconds=$1 lines=$2 status=0 log
  shift 2
  log=$(mktemp)
  echo "+ $*" >&2
  timeout "$seconds" "$@" 2>&1 | tee "$log" || status=$?
  ((status == 0)) || failed=1
  {
    printf '\n    %s\n\nexit status %d\n\n' "$*" "$status"
    grep '^|' "$log" || tr '\r' '\n' <"$log" | tail -n "$lines" | sed 's/^./    &/'
  } >>"$section"
  rm "$log"
}

# Make the random weights of a family, unless an earlier call did.
weights() {
  local folder=$WEIGHTS/$1
  [[ -d $folder ]] && return
  rm -rf "$folder.part"
  mkdir -p "$WEIGHTS"
  "$PYTHON" -m esd_splat.teacher.random_weights --family "$1" --out "$folder.part" >&2 ||
    missing "random weights of $1 in $folder"
  mv "$folder.part" "$folder"
}

measure() {
  local out=outputs/gpu tool family batch
  case $1 in
    tests)
      record 200 3 "$PYTHON" -m pytest -q -m gpu tests/scene/rasterize tests/scene/densify
      # Without torch's cache each tensor is a separate allocation, so memcheck knows where it ends.
      for tool in memcheck racecheck; do
        record 130 5 env PYTORCH_NO_CUDA_MEMORY_CACHING=1 ESD_SPLAT_EXAMPLES=3 \
          compute-sanitizer --tool "$tool" --error-exitcode 1 \
          "$PYTHON" -m pytest -q -m gpu tests/scene/densify
      done
      ;;
    kernels)
      record 260 20 "$PYTHON" -m benchmarks.densify --device cuda
      record 260 20 "$PYTHON" -m benchmarks.rasterize --device cuda
      ;;
    step)
      record 150 20 "$PYTHON" -m benchmarks.step --device cuda
      for family in sd15 sd21-base sdxl; do
        weights "$family"
        for batch in 1 4; do
          record 75 20 "$PYTHON" -m benchmarks.step --device cuda --steps 10 \
            --methods esd_sd teacher.model="$WEIGHTS/$family" batch="$batch"
        done
      done
      ;;
    job)
      record 500 3 "$PYTHON" -m esd_splat.fit --config configs/esd.yaml device=cuda \
        prompt="a red owl" out="$out" overwrite=true
      record 10 80 cat "$out/summary.json"
      ;;
  esac
}

# Remove the old section of this subcommand from the page, and append the new one.
write_page() {
  local name page
  name=${gpu#NVIDIA }
  page="$RESULTS/$(tr 'A-Z ' 'a-z-' <<<"$name").md"
  mkdir -p "$RESULTS"
  [[ -f $page ]] || printf '# One %s\n\nWritten by benchmarks/gpu.sh.\n' "$name" >"$page"
  awk -v own="## $1" '/^## / { skip = $0 == own } !skip' "$page" >"$page.tmp"
  cat "$page.tmp" "$section" >"$page"
  rm "$page.tmp" "$section"
  echo "gpu.sh: $page" >&2
}

versions() {
  "$PYTHON" - <<'PY'
import platform
from importlib.metadata import version

import torch

found = ", ".join(f"{name} {version(name)}" for name in ("gsplat", "diffusers", "peft"))
print(f"Python {platform.python_version()}, torch {torch.__version__}, {found}")
PY
}

what=${1:-}
if [[ ! $what =~ ^(tests|kernels|step|job)$ ]]; then
  echo "usage: benchmarks/gpu.sh tests|kernels|step|job" >&2
  exit 2
fi
look "$what"
install
section=$(mktemp) failed=0
driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -n 1)
printf '\n## %s\n\n%s, driver %s, %s.\n' "$what" "$(date +%F)" "$driver" "$(versions)" >"$section"
measure "$what"
write_page "$what"
exit "$failed"

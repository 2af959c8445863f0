#!/usr/bin/env bash
# Flotilla on a bare machine with a graphics card and no network.
#
#   benchmarks/gpu.sh bundle FILE.tar.gz   here, with network: the repository's last commit, Deno and
#                                          the packages it needs, in one file of at most 60 MB
#   benchmarks/gpu.sh [run [OPTION…]]      there, in the unpacked folder: finds the card's driver,
#                                          runs the tests on it, then the benchmark. Options go to
#                                          the benchmark (--all: the 8B shape too; --only, --json, …)
#
#   tar xzf FILE.tar.gz && flotilla/benchmarks/gpu.sh
#
# Needs Linux on x86-64 and the card's Vulkan driver; nothing else, and writes only into the folder.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root bundle_bytes_max=60000000

fail() { printf 'gpu.sh: %s\n' "$*" >&2 && exit 1; }

# Everything that the tests and the benchmark load, into the folder's own cache.
programs=(src/main.ts src/bench/group_process.ts src/kernels/webgpu tests/kernels tests/parity
  tests/simulation/failover_test.ts tests/simulation/engine_test.ts tests/server/placement_test.ts
  tests/server/gpu_loss_test.ts tests/cluster/mixed_classes_test.ts)

# Names of the tests that run on a GPU.
readonly gpu_tests='webgpu|GPU|matmul|binding|memory that|granted|uning|places|mixed-classes|own class'

make_bundle() {
  local out=$1 scratch folder deno
  mkdir -p "$(dirname "$out")"
  scratch=$(mktemp -d)
  # shellcheck disable=SC2064 # the folder is known now
  trap "rm -rf '$scratch'" EXIT
  folder=$scratch/flotilla
  mkdir -p "$folder/offline/lib"
  git -C "$root" archive HEAD | tar x -C "$folder"
  deno=$(deno eval 'console.log(Deno.execPath())')
  cp "$deno" "$folder/offline/deno"
  # The loader of Vulkan drivers, for machines that have the driver alone.
  local loader
  loader=$(ldconfig -p | sed -n 's/.*libvulkan\.so\.1 .*x86-64.* => //p' | head -n 1)
  if [[ -n $loader ]]; then cp -L "$loader" "$folder/offline/lib/libvulkan.so.1"; fi
  local modules
  mapfile -t modules < <(cd "$folder" && find "${programs[@]}" -name '*_test.ts' ! -name 'browser_*' \
    -o -path '*.ts' -prune -type f ! -name 'browser_*')
  (
    cd "$folder"
    # Packages that only other tests and peers use.
    offline/deno eval '
      const config = JSON.parse(Deno.readTextFileSync("deno.json"));
      for (const name of ["openai", "esbuild", "playwright-core", "fast-check"]) {
        delete config.imports[name];
      }
      Deno.writeTextFileSync("deno.json", JSON.stringify(config, null, 2));
      Deno.removeSync("deno.lock");'
    env DENO_DIR="$folder/offline/cache" offline/deno cache --quiet --no-check "${modules[@]}"
    # Compiled code is made anew there, and nobody reads types and maps.
    rm -rf offline/cache/gen offline/cache/*_cache_v* kernels-rs models/nano-moe tests/fixtures/model/video
    rm tests/kernels/browser_*_test.ts
    find offline/cache/npm \( -name '*.d.ts' -o -name '*.d.cts' -o -name '*.d.mts' -o -name '*.map' \) -delete
  )
  tar c -C "$scratch" flotilla | gzip -9 >"$out.partial"
  mv "$out.partial" "$out"
  local size
  size=$(stat -c %s "$out")
  ((size <= bundle_bytes_max)) || fail "$out has $size bytes, more than $bundle_bytes_max"
  printf '%s: %d MB\n' "$out" $((size / 1000000))
}

# The driver of an NVIDIA card may lie there without the file that announces it.
announce_driver() {
  compgen -G '/usr/share/vulkan/icd.d/*.json' >/dev/null && return
  compgen -G '/etc/vulkan/icd.d/*.json' >/dev/null && return
  local announced
  announced=$(compgen -G '/usr/local/*/share/vulkan/icd.d/*.json' | head -n 1 || true)
  if [[ -n $announced ]]; then
    export VK_ICD_FILENAMES=$announced VK_DRIVER_FILES=$announced
    return
  fi
  local driver
  driver=$(ldconfig -p | sed -n 's/.*\(libGLX_nvidia\.so\.0\|libEGL_nvidia\.so\.0\) .*x86-64.* => //p' | head -n 1)
  [[ -n $driver ]] || return 0
  printf '{"file_format_version":"1.0.0","ICD":{"library_path":"%s","api_version":"1.3.0"}}\n' \
    "$driver" >"$root/offline/driver.json"
  export VK_ICD_FILENAMES=$root/offline/driver.json
}

run_all() {
  local deno=deno
  if [[ -x $root/offline/deno ]]; then
    deno=$root/offline/deno
    export DENO_DIR=$root/offline/cache
    # Behind the system's own libraries.
    export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$root/offline/lib"
  fi
  export DENO_NO_UPDATE_CHECK=1 NO_COLOR=1 XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/tmp}
  announce_driver
  cd "$root"
  local results=$root/gpu-results
  mkdir -p "$results"
  "$deno" run --no-check --cached-only --allow-all src/main.ts doctor | tee "$results/doctor.txt"
  grep -q '^ok  webgpu\|^--  webgpu.*which is the processor' "$results/doctor.txt" ||
    fail "no adapter: see $results/doctor.txt"
  local status=0
  "$deno" test --no-check --cached-only --allow-all --filter "/$gpu_tests/" \
    src/kernels/webgpu tests/kernels tests/parity tests/simulation/failover_test.ts \
    tests/server/placement_test.ts tests/server/gpu_loss_test.ts \
    tests/cluster/mixed_classes_test.ts 2>&1 |
    tee "$results/tests.txt" || status=$?
  "$deno" run --no-check --cached-only --allow-all src/main.ts bench --backend webgpu \
    --json "$results/bench.json" "$@" | tee "$results/bench.txt" || status=$?
  printf 'Results are in %s\n' "$results"
  return "$status"
}

case ${1:-run} in
  bundle) make_bundle "$(realpath -m "${2:?gpu.sh bundle FILE.tar.gz}")" ;;
  run) run_all "${@:2}" ;;
  -*) run_all "$@" ;;
  *) fail "unknown command $1" ;;
esac

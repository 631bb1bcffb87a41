#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the extension with a sanitizer into build/asan or build/tsan and runs the core's tests and the Python suites.
# Usage: sanitize.sh address|thread [pytest arguments]; default: every suite that runs the core, folder by folder, each
# with a log of its own in build/asan/logs or build/tsan/logs. One that fails does not keep the others from running.
#
# The build gets an environment of its own that borrows the packages of .venv, so the plain build stays as it is.
# The interpreter is not instrumented: the sanitizer's runtime is loaded before it, and libstdc++ with it, because the
# runtime must see C++ exceptions before the first extension module is loaded.
set -eu
sanitizer=$1
shift
root=$(cd "$(dirname "$0")/.." && pwd)
main="$root/.venv/bin/python"
case $sanitizer in
  address) name=asan runtime=libasan.so ;;
  thread) name=tsan runtime=libtsan.so ;;
  *) echo "unknown sanitizer '$sanitizer': address or thread" >&2; exit 2 ;;
esac
build="$root/build/$name"
python="$build/venv/bin/python"

if [ ! -x "$python" ]; then
  "$main" -m venv --without-pip "$build/venv"
  "$main" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
    > "$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/borrowed.pth"
fi
"$main" -m pip --quiet --python "$python" install --no-deps --ignore-installed --no-build-isolation --editable "$root" \
  -Cbuild-dir="$build/cmake" -Ccmake.build-type=RelWithDebInfo -Cinstall.strip=false \
  -Ccmake.define.PYINFER_SANITIZE="$sanitizer" -Ccmake.define.PYINFER_BUILD_TESTS=ON \
  -Ccmake.define.CMAKE_INTERPROCEDURAL_OPTIMIZATION=OFF \
  -Ccmake.define.CMAKE_CXX_FLAGS_RELWITHDEBINFO="-O1 -g" # no NDEBUG: the assertions of libraries are looked at too

suppressions="$root/sanitizers"
export UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1"
export TSAN_OPTIONS="suppressions=$suppressions/tsan.supp:history_size=7:second_deadlock_stack=1:exitcode=66"
export LSAN_OPTIONS="suppressions=$suppressions/lsan.supp"
# Both runtimes want their shadow memory at fixed addresses, which kernels with much address randomisation deny.
still=""
if setarch "$(uname -m)" -R true 2>/dev/null; then still="setarch $(uname -m) -R"; fi

ASAN_OPTIONS="detect_leaks=1:abort_on_error=1:strict_string_checks=1" $still "$build/cmake/core_tests"
ASAN_OPTIONS="detect_leaks=1:abort_on_error=1" $still "$build/cmake/simulation" 5000

# CPython and the libraries beside ours keep memory until exit on purpose: leaks are looked for in core_tests only.
# Sub-processes (servers that tests start) inherit all of it; tests/contract/tools is left out, because NVIDIA's load
# generator does not start under the runtime.
cd "$root"
export PYINFER_SANITIZER="$sanitizer"
export PYTHONMALLOC=malloc
# A model of tests/faults asks for more memory than there is, which has to fail as it does without a sanitizer.
export ASAN_OPTIONS="detect_leaks=0:abort_on_error=1:strict_string_checks=1:allocator_may_return_null=1"
export TSAN_OPTIONS="$TSAN_OPTIONS:ignore_noninstrumented_modules=1"
compiler=${CXX:-g++}
tests() {
  LD_PRELOAD="$("$compiler" -print-file-name=$runtime) $("$compiler" -print-file-name=libstdc++.so)" \
    $still "$python" -m pytest -p no:cacheprovider -o timeout=900 --ignore "$root/tests/contract/tools" "$@"
}
if [ $# -gt 0 ]; then
  tests "$@"
  exit
fi
logs="$build/logs"
rm -rf "$logs"
mkdir -p "$logs"
failed=""
for suite in tests/faults tests/contract/*/ tests/contract tests/unit; do
  suite=${suite%/}
  case $suite in */__pycache__ | */tools) continue ;; esac
  files=$(find "$suite" -name 'test_*.py')
  # the folders of tests/contract have their turns of their own
  [ "$suite" != tests/contract ] || files=$(find "$suite" -maxdepth 1 -name 'test_*.py')
  log="$logs/$(echo "$suite" | tr / _).log"
  # shellcheck disable=SC2086
  tests $files > "$log" 2>&1 || failed="$failed $suite"
  echo "$suite: $(tail -n 1 "$log")"
done
[ -z "$failed" ] || { echo "failed:$failed; see $logs" >&2; exit 1; }

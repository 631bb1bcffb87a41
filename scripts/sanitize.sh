#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the extension with a sanitizer into build/asan or build/tsan and runs the core's tests and the Python suites.
# Usage: sanitize.sh address|thread [pytest arguments]; default: the core's tests, and every suite that runs the core.
#
# Each folder is a piece, with a log of its own in build/asan/logs or build/tsan/logs. One that fails or hangs does not keep
# the others from running. What the sanitizer reports of any process, also of a server or a worker whose end no test looks
# at, is a file beside the log, PIECE.report.PID, and fails the piece. GCC's UBSan has no such file: it ends the process.
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

logs="$build/logs"
suppressions="$root/sanitizers"
asan="abort_on_error=1:strict_string_checks=1"
tsan="suppressions=$suppressions/tsan.supp:history_size=7:second_deadlock_stack=1:exitcode=66:atexit_sleep_ms=0"
export LSAN_OPTIONS="suppressions=$suppressions/lsan.supp"
export PYINFER_SANITIZER="$sanitizer"
# Both runtimes want their shadow memory at fixed addresses, which kernels with much address randomisation deny.
still=""
if setarch "$(uname -m)" -R true 2>/dev/null; then still="setarch $(uname -m) -R"; fi
limit_s=7200 # of a piece; only there to end a hang that not even the limit of each test ends
failed=""

# piece NAME COMMAND...: says how it went, and notes it in $failed
piece() {
  name=$1
  shift
  report="$logs/$name.report"
  ended=0
  ASAN_OPTIONS="$asan:log_path=$report" TSAN_OPTIONS="$tsan:log_path=$report" \
    UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1:abort_on_error=1" \
    timeout --kill-after=60 "$limit_s" $still "$@" > "$logs/$name.log" 2>&1 || ended=$?
  # a report, not what the allocator says of a size that it can not give
  reports=$(grep -l -s -e 'Sanitizer: ' -e ': runtime error: ' "$logs/$name.log" "$report".* | wc -l)
  echo "$name: $(tail -n 1 "$logs/$name.log"), exit status $ended, reports in $reports files"
  [ "$ended" -eq 0 ] && [ "$reports" -eq 0 ] || failed="$failed $name"
}

compiler=${CXX:-g++}
runtimes="$("$compiler" -print-file-name=$runtime) $("$compiler" -print-file-name=libstdc++.so)"
# suite NAME PYTEST-ARGUMENT...
suite() {
  name=$1
  shift
  piece "$name" env LD_PRELOAD="$runtimes" PYTHONMALLOC=malloc \
    "$python" -m pytest -v -p no:cacheprovider -o timeout=900 --ignore "$root/tests/contract/tools" "$@"
}

cd "$root"
rm -rf "$logs"
mkdir -p "$logs"
if [ $# -eq 0 ]; then
  asan="$asan:detect_leaks=1"
  piece core_tests "$build/cmake/core_tests"
  piece simulation "$build/cmake/simulation" 5000
fi
# CPython and the libraries beside ours keep memory until exit on purpose: leaks are looked for in core_tests only.
# A model of tests/faults asks for more memory than there is, which has to fail as it does without a sanitizer.
# Sub-processes (servers that tests start, and their workers) inherit all of it; tests/contract/tools is left out, because
# NVIDIA's load generator does not start under the runtime.
# Under TSan a vfork is a fork: gRPC's client, in the process of the tests, would start threads between that and exec.
export GRPC_ENABLE_FORK_SUPPORT=0
# Workers that end by SIGSEGV are part of the tests, and no report: nobody handles it, and what crashes fails its test.
asan="abort_on_error=1:strict_string_checks=1:detect_leaks=0:allocator_may_return_null=1:handle_segv=0"
tsan="$tsan:ignore_noninstrumented_modules=1:handle_segv=0:allocator_may_return_null=1"
if [ $# -gt 0 ]; then
  suite given "$@"
  cat "$logs/given.log"
else
  for folder in $(find tests/faults tests/contract tests/unit -type d -not -path tests/contract/tools | LC_ALL=C sort); do
    files=$(find "$folder" -maxdepth 1 -name 'test_*.py')
    # shellcheck disable=SC2086
    [ -z "$files" ] || suite "$(echo "$folder" | tr / _)" $files
  done
fi
[ -z "$failed" ] || { echo "failed:$failed; see $logs" >&2; exit 1; }

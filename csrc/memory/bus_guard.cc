// SPDX-License-Identifier: Apache-2.0
#include "memory/bus_guard.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <mutex>

namespace pyinfer {

// Ranges are never freed, because the handler walks them without a lock; those of the past are used again.
struct BusGuard::Range {
  std::atomic<uint64_t> version{0};  // odd while begin and end do not belong together
  std::atomic<uintptr_t> begin{0};   // 0: not in use
  std::atomic<uintptr_t> end{0};
  std::atomic<bool> broken{false};
  Range* next = nullptr;
};

namespace {

std::atomic<BusGuard::Range*> ranges{nullptr};
std::mutex ranges_mutex;  // of those who change the list; not of the handler
struct sigaction previous;
uintptr_t page_mask = 0;

void Assign(BusGuard::Range& range, uintptr_t begin, uintptr_t end) {
  range.version.fetch_add(1);
  range.begin.store(begin);
  range.end.store(end);
  range.broken.store(false);
  range.version.fetch_add(1);
}

// A range that is changing can not be the one: memory that is being used stays watched.
bool Holds(const BusGuard::Range& range, uintptr_t address, uintptr_t& end) {
  const uint64_t version = range.version.load();
  const uintptr_t begin = range.begin.load();
  end = range.end.load();
  return version % 2 == 0 && range.version.load() == version && begin != 0 && address >= begin && address < end;
}

// Async-signal-safe: loads of lock-free atomics and one system call, which is made directly because sanitizers wrap the
// function of the library.
bool Mend(uintptr_t address) {
  for (BusGuard::Range* range = ranges.load(std::memory_order_acquire); range != nullptr; range = range->next) {
    uintptr_t end = 0;
    if (!Holds(*range, address, end)) continue;
    // In this order: whoever reads the zeros, on any thread, also finds that the range is broken.
    range->broken.store(true);
    // A file loses its tail: nothing behind the missing page is there either.
    const uintptr_t page = address & page_mask;
    return syscall(SYS_mmap, page, end - page, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != -1;
  }
  return false;
}

void PassOn(int signal, siginfo_t* info, void* context) {
  if ((previous.sa_flags & SA_SIGINFO) != 0 && previous.sa_sigaction != nullptr) {
    return previous.sa_sigaction(signal, info, context);
  }
  const bool sent = info->si_code <= 0;  // by somebody, not by an access
  if (previous.sa_handler == SIG_IGN && sent) return;
  if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) return previous.sa_handler(signal);
  // The access is repeated when this returns, and ends the process as it would have without us; what was sent is sent
  // again.
  std::signal(signal, SIG_DFL);
  if (sent) raise(signal);
}

void OnBusError(int signal, siginfo_t* info, void* context) {
  const int saved = errno;
  // Only then si_addr is the address of an access.
  const bool missing = info->si_code == BUS_ADRERR;
  if (!missing || !Mend(reinterpret_cast<uintptr_t>(info->si_addr))) PassOn(signal, info, context);
  errno = saved;
}

void Install() {
  page_mask = ~(static_cast<uintptr_t>(sysconf(_SC_PAGESIZE)) - 1);
  struct sigaction action = {};
  action.sa_sigaction = &OnBusError;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, nullptr, &previous);  // before the handler can need it
  sigaction(SIGBUS, &action, nullptr);
}

BusGuard::Range* Claim(uintptr_t begin, uintptr_t end) {
  static std::once_flag installed;
  std::call_once(installed, Install);
  std::lock_guard<std::mutex> lock(ranges_mutex);
  BusGuard::Range* range = ranges.load(std::memory_order_relaxed);
  while (range != nullptr && range->begin.load(std::memory_order_relaxed) != 0) range = range->next;
  const bool fresh = range == nullptr;
  if (fresh) range = new BusGuard::Range;
  Assign(*range, begin, end);
  if (fresh) {
    range->next = ranges.load(std::memory_order_relaxed);
    ranges.store(range, std::memory_order_release);
  }
  return range;
}

}  // namespace

BusGuard::BusGuard(void* data, size_t size)
    : range_(Claim(reinterpret_cast<uintptr_t>(data), reinterpret_cast<uintptr_t>(data) + size)) {}

BusGuard::~BusGuard() {
  std::lock_guard<std::mutex> lock(ranges_mutex);
  Assign(*range_, 0, 0);
}

bool BusGuard::broken() const { return range_->broken.load(); }

}  // namespace pyinfer

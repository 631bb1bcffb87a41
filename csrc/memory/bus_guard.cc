// SPDX-License-Identifier: Apache-2.0
#include "memory/bus_guard.h"

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdint>
#include <mutex>

namespace pyinfer {

// Ranges are never freed, because the handler walks them without a lock; those of the past are used again.
struct BusGuard::Range {
  std::atomic<uintptr_t> begin{0};  // 0: not in use
  std::atomic<uintptr_t> end{0};
  std::atomic<bool> broken{false};
  Range* next = nullptr;
};

namespace {

std::atomic<BusGuard::Range*> ranges{nullptr};
std::mutex ranges_mutex;  // of those who change the list; not of the handler
struct sigaction previous;
uintptr_t page_mask = 0;

// Async-signal-safe: loads of lock-free atomics and one mmap.
bool Mend(uintptr_t address) {
  for (BusGuard::Range* range = ranges.load(std::memory_order_acquire); range != nullptr; range = range->next) {
    const uintptr_t begin = range->begin.load(std::memory_order_acquire);
    const uintptr_t end = range->end.load(std::memory_order_acquire);
    if (begin == 0 || address < begin || address >= end) continue;
    // A file loses its tail: nothing behind the missing page is there either.
    const uintptr_t page = address & page_mask;
    void* const mapped = mmap(reinterpret_cast<void*>(page), end - page, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) return false;
    range->broken.store(true, std::memory_order_release);
    return true;
  }
  return false;
}

void OnBusError(int signal, siginfo_t* info, void* context) {
  if (Mend(reinterpret_cast<uintptr_t>(info->si_addr))) return;
  if ((previous.sa_flags & SA_SIGINFO) != 0 && previous.sa_sigaction != nullptr) {
    previous.sa_sigaction(signal, info, context);
  } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
    previous.sa_handler(signal);
  } else {
    // The access is repeated when this returns, and ends the process as it would have without us.
    std::signal(signal, SIG_DFL);
  }
}

void Install() {
  page_mask = ~(static_cast<uintptr_t>(sysconf(_SC_PAGESIZE)) - 1);
  struct sigaction action = {};
  action.sa_sigaction = &OnBusError;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, &previous);
}

BusGuard::Range* Claim(uintptr_t begin, uintptr_t end) {
  static std::once_flag installed;
  std::call_once(installed, Install);
  std::lock_guard<std::mutex> lock(ranges_mutex);
  BusGuard::Range* range = ranges.load(std::memory_order_relaxed);
  while (range != nullptr && range->begin.load(std::memory_order_relaxed) != 0) range = range->next;
  const bool fresh = range == nullptr;
  if (fresh) range = new BusGuard::Range;
  range->broken.store(false, std::memory_order_relaxed);
  range->end.store(end, std::memory_order_relaxed);
  range->begin.store(begin, std::memory_order_release);
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
  range_->begin.store(0, std::memory_order_release);
}

bool BusGuard::broken() const { return range_->broken.load(std::memory_order_acquire); }

}  // namespace pyinfer

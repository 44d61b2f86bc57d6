// Share out numbered tasks among CPU threads.
#pragma once
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>
#ifdef __SSE__
#include <xmmintrin.h>
#endif
#ifdef __linux__
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#endif

namespace {

// Ask to be run soon and briefly, for the same share of the core. A thread that wakes for a round of a
// millisecond else waits for whole slices of whoever else is there, and its team with it: beside one busy
// process per core that is the difference between 0.43 and 0.52 of what the team does alone. Kernels
// before Linux 6.12 take the wish and ignore it; where it is refused nothing is lost.
void run_soon() {
#if defined(__linux__) && defined(SYS_sched_setattr)
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } wish{sizeof(wish), SCHED_OTHER, 0, getpriority(PRIO_PROCESS, 0), 0, 100'000 /* ns */, 0, 0};
    if (sched_getscheduler(0) == SCHED_OTHER) syscall(SYS_sched_setattr, 0, &wish, 0);
#endif
}

using Task = std::function<void(int)>;

// A team of sleeping threads that share out numbered tasks, round after round. The caller works too, and
// waits for no helper that has not entered the round: a busy machine costs no more than its absence.
//
// One word says all: how many helpers are inside, whether the door is open, and which round it is. A helper
// enters by counting itself in while the door is open, in one step. The caller shuts the door, waits until
// nobody is inside, and only then writes the next round's tasks. So nobody ever reads what is being written,
// and a helper that comes late finds the door shut. Threads end with their team.
class Team {
  public:
    explicit Team(int helpers) : helpers(std::min<int>(helpers, INSIDE)), owner(getpid()) {
        run_soon();
        for (int i = 0; i < this->helpers; i++) threads_.emplace_back([this] { serve(); });
    }
    ~Team() {
        word_.fetch_or(STOP);
        word_.notify_all();
        for (auto& thread : threads_) thread.join();
    }
    Team(const Team&) = delete;
    void run(int tasks, const Task& task) {
        task_ = &task;
        tasks_ = tasks;
        next_.store(0, std::memory_order_relaxed);
        word_.store(((word_.load() & ROUND) + ONE_ROUND) | OPEN);
        word_.notify_all();
        work();
        word_.fetch_and(~OPEN);
        for (;;) {
            const uint32_t left = left_.load();
            const auto empty = [&] { return !(word_.load(std::memory_order_acquire) & INSIDE); };
            if (spin(empty)) return;
            if (!empty()) left_.wait(left);
        }
    }
    const int helpers;
    const pid_t owner;  // threads do not survive a fork

  private:
    static constexpr uint32_t INSIDE = 0xff, OPEN = 0x100, STOP = 0x200, ONE_ROUND = 0x400;
    static constexpr uint32_t ROUND = ~(ONE_ROUND - 1);

    void work() {
        for (int i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < tasks_;) (*task_)(i);
    }
    void serve() {
        run_soon();
#ifdef __SSE__
        _mm_setcsr(_mm_getcsr() | 0x8040);  // flush denormals: decayed Adam moments would crawl
#endif
        for (uint32_t seen = 0;;) {
            uint32_t word = word_.load();
            const auto called = [&] {
                word = word_.load();
                return (word & STOP) || ((word & OPEN) && (word & ROUND) != seen);
            };
            while (!spin(called)) word_.wait(word);
            if (word & STOP) return;
            while (word & OPEN)
                if (word_.compare_exchange_weak(word, word + 1)) {
                    seen = word & ROUND;
                    work();
                    const uint32_t before = word_.fetch_sub(1);
                    if (!(before & OPEN) && (before & INSIDE) == 1) {
                        left_.fetch_add(1);
                        left_.notify_one();
                    }
                    break;
                }
        }
    }
    // Wait a little: what is awaited may not be running, and then its core is better left to it.
    template <class Ready>
    static bool spin(const Ready& ready) {
        const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(30);
        do
            for (int i = 0; i < 16; i++) {
                if (ready()) return true;
#ifdef __SSE__
                _mm_pause();
#endif
            }
        while (std::chrono::steady_clock::now() < end);
        return false;
    }
    std::atomic<uint32_t> word_{0}, left_{0};  // left_ wakes a caller that waits for the last one inside
    std::atomic<int> next_{0};
    int tasks_ = 0;
    const Task* task_ = nullptr;
    std::vector<std::thread> threads_;
};

void parallel(int threads, int tasks, const Task& task) {
    static std::mutex one_at_a_time;
    static Team* team = nullptr;  // the last one ends with the process
    std::lock_guard<std::mutex> lock(one_at_a_time);
#ifdef __SSE__
    const unsigned mode = _mm_getcsr();
    _mm_setcsr(mode | 0x8040);
#endif
    if (threads < 2 || tasks < 2) {
        for (int i = 0; i < tasks; i++) task(i);
    } else {
        if (!team || team->owner != getpid() || team->helpers != std::min(threads - 1, 255)) {
            if (team && team->owner == getpid()) delete team;
            team = new Team(threads - 1);
        }
        team->run(tasks, task);
    }
#ifdef __SSE__
    _mm_setcsr(mode);
#endif
}

}  // namespace

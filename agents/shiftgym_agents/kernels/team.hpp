// Share out numbered tasks among CPU threads.
#pragma once
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#ifdef __SSE__
#include <xmmintrin.h>
#endif

namespace {

// A team of sleeping threads that share out numbered tasks; the caller works too and never waits for a
// helper that has not taken a task, so a busy machine costs no more than the helper's absence.
class Team {
  public:
    explicit Team(int helpers) : helpers(helpers), owner(getpid()) {
        for (int i = 0; i < helpers; i++) std::thread([this] { serve(); }).detach();
    }
    void run(int tasks, const std::function<void(int)>& task) {
        task_ = &task;
        tasks_ = tasks;
        done_ = 0;
        {
            std::lock_guard<std::mutex> lock(mutex_);
            claim_ = ((claim_.load() >> 32) + 1) << 32;
        }
        wake_.notify_all();
        work(claim_.load() >> 32);
        while (done_.load(std::memory_order_acquire) < tasks) relax();
    }
    const int helpers;
    const pid_t owner;  // threads do not survive a fork

  private:
    void work(uint64_t round) {  // a claim counts only while its round lasts
        for (uint64_t c = claim_.load(); c >> 32 == round && int(c & 0xffffffff) < tasks_.load();) {
            if (!claim_.compare_exchange_weak(c, c + 1)) continue;
            (*task_.load())(int(c & 0xffffffff));
            done_.fetch_add(1, std::memory_order_release);
            c = claim_.load();
        }
    }
    void serve() {
#ifdef __SSE__
        _mm_setcsr(_mm_getcsr() | 0x8040);  // flush denormals: decayed Adam moments would crawl
#endif
        for (uint64_t seen = 0;;) {
            for (int spin = 0; spin < 2000 && claim_.load() >> 32 == seen; spin++) relax();
            if (claim_.load() >> 32 == seen) {
                std::unique_lock<std::mutex> lock(mutex_);
                wake_.wait(lock, [&] { return claim_.load() >> 32 != seen; });
            }
            seen = claim_.load() >> 32;
            work(seen);
        }
    }
    static void relax() {
#ifdef __SSE__
        _mm_pause();
#else
        std::this_thread::yield();
#endif
    }
    std::mutex mutex_;
    std::condition_variable wake_;
    std::atomic<uint64_t> claim_{0};  // round, then the next task
    std::atomic<int> tasks_{0}, done_{0};
    std::atomic<const std::function<void(int)>*> task_{nullptr};
};

void parallel(int threads, int tasks, const std::function<void(int)>& task) {
    static std::mutex one_at_a_time;
    static Team* team = nullptr;  // leaked: its threads end with the process
    std::lock_guard<std::mutex> lock(one_at_a_time);
#ifdef __SSE__
    const unsigned mode = _mm_getcsr();
    _mm_setcsr(mode | 0x8040);
#endif
    if (threads < 2 || tasks < 2) {
        for (int i = 0; i < tasks; i++) task(i);
    } else {
        if (!team || team->owner != getpid() || team->helpers != threads - 1)
            team = new Team(threads - 1);
        team->run(tasks, task);
    }
#ifdef __SSE__
    _mm_setcsr(mode);
#endif
}

}  // namespace

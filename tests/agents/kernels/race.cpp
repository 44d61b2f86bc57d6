// Run rounds of tasks through `parallel` and count everything that is not "each task exactly once, and done when
// it returns": race THREADS ROUNDS. Rounds differ in size and follow each other at once or after a pause. Tasks
// write plain memory that the caller reads and clears between rounds, so a thread sanitizer sees what races.
#include <cstdio>
#include <cstdlib>
#include <random>

#include "team.hpp"

static void pause(int turns) {
    static std::atomic<int> sink;
    for (int i = 0; i < turns; i++) sink.load();
}

int main(int, char** argv) {
    const int threads = atoi(argv[1]);
    const long rounds = atol(argv[2]);
    std::vector<int> runs(64), value(64);
    std::mt19937 draw(threads);
    long wrong = 0;
    for (long round = 0; round < rounds; round++) {
        const int tasks = round % 2 ? 2 : 2 + draw() % 62, length = draw() % 4 ? 0 : draw() % 500, gap = draw() % 8 ? 0 : draw() % 20000;
        std::fill(runs.begin(), runs.end(), 0);
        std::atomic<int> begun{0}, ended{0};
        parallel(threads, tasks, [&](int task) {
            begun++;
            runs[task]++;
            pause(length);
            value[task] = int(round);
            ended++;
        });
        bool bad = begun != tasks || ended != tasks;
        for (int i = 0; i < int(runs.size()); i++) bad |= runs[i] != (i < tasks) || (i < tasks && value[i] != int(round));
        wrong += bad;
        pause(gap);
        if (round % 50000 == 49999) parallel(2 + draw() % threads, 4, [](int) {});  // another team for a while
    }
    printf("%d threads, %ld rounds: %ld wrong\n", threads, rounds, wrong);
    return wrong != 0;
}

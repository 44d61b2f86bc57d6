// Run blocks of SAC updates of odd shapes, every array exactly as long as it must be: for sanitizers.
#include "sac_kernel.cpp"

int main() {
    int64_t shapes[][4] = {{1, 1, 1, 1}, {5, 2, 7, 3}, {3, 1, 20, 5}, {11, 3, 33, 6}, {17, 6, 45, 2}, {27, 8, 64, 9}};
    for (auto& [obs, act, width, batch] : shapes) {
        const int64_t runs = 2, updates = 2, capacity = 10;
        const long actor = Shape(obs, width, 2 * act).total, critic = Shape(obs + act, width, 1).total;
        std::vector<std::vector<float>> made;
        auto room = [&](long n, float scale) {
            made.emplace_back(n);
            for (long i = 0; i < n; i++) made.back()[i] = scale * std::sin(i * 1.7f + n);
            return made.back().data();
        };
        std::vector<int64_t> indices(runs * updates * batch);
        for (size_t i = 0; i < indices.size(); i++) indices[i] = i * 7 % capacity;
        Block block{runs, updates, batch, obs, act, width, capacity, 2, 0, 0.99f, 0.005f, 1e-3f, -1, 1, -20, 2,
                    room(runs * 2 * critic, .3f), room(runs * 2 * critic, .3f), room(runs * actor, .3f), room(runs, .1f),
                    room(runs * 2 * critic, 0), room(runs * 2 * critic, 0), room(runs * actor, 0), room(runs * actor, 0),
                    room(runs, 0), room(runs, 0), room(runs * capacity * (2 * obs + act + 2), 1), indices.data(),
                    room(runs * updates * 2 * batch * act, 1), room(runs * 4, 0)};
        sac_block(&block);
        for (int i = 0; i < runs * 4; i++)
            if (!std::isfinite(block.metrics[i])) return 1;
    }
}

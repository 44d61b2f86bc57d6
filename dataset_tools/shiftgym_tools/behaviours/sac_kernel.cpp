// Run a block of SAC updates for many independent agents on CPU cores, one agent per thread at a time.
//
// The same equations as `sac.py`'s eager reference (Haarnoja et al. 2018, arXiv:1812.05905), laid out
// so that one agent's batch stays in the L2 cache through all its layers: that is what makes it several
// times faster than stacked tensor operations, which stream every activation of all agents through
// memory. Agents share nothing, so results depend on neither the thread count nor the other agents.
//
// Matrices are row-major. Networks: in -> W -> W -> out with ReLU, stored W0 b0 W1 b1 W2 b2 in a row.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <thread>
#include <vector>
#ifdef __SSE__
#include <xmmintrin.h>
#endif

#include "products.hpp"  // of shiftgym_agents

namespace {

// C (M, N) = A (M, K) B (K, N) with element (i, j) of A at A[i*a_row + j*a_col], likewise B; C dense.
struct Products {
    std::vector<float> scratch;
    void operator()(int M, int N, int K, const float* A, long a_row, long a_col, const float* B,
                    long b_row, long b_col, float* C, const Epilogue& e = {}) {
        const bool narrow = N <= NARROW && !e.relu && !e.mask;
        if (narrow && a_row == 1 && b_row == N && b_col == 1 && !e.bias) return outer_narrow(M, N, K, A, a_col, B, C);
        scratch.resize(packed_size(K, N));
        if (narrow && a_col == 1) {
            for (int n = 0; n < N; n++)
                for (int k = 0; k < K; k++) scratch[(long)n * K + k] = B[k * b_row + n * b_col];
            return multiply_narrow(M, N, K, A, a_row, scratch.data(), e.bias, C);
        }
        pack(K, N, B, b_row, b_col, scratch.data());
        multiply(M, N, K, A, a_row, a_col, scratch.data(), C, N, e);
    }
};

struct Shape {  // offsets of one network's weights inside its flat row
    int in, width, out;
    long w0 = 0, b0, w1, b1, w2, b2, total;
    Shape(int in, int width, int out) : in(in), width(width), out(out) {
        b0 = (long)in * width;
        w1 = b0 + width;
        b1 = w1 + (long)width * width;
        w2 = b1 + width;
        b2 = w2 + (long)width * out;
        total = b2 + out;
    }
};

void forward(Products& mm, const Shape& s, const float* p, int rows, const float* x, float* h1, float* h2,
             float* y) {
    mm(rows, s.width, s.in, x, s.in, 1, p + s.w0, s.width, 1, h1, {p + s.b0, true});
    mm(rows, s.width, s.width, h1, s.width, 1, p + s.w1, s.width, 1, h2, {p + s.b1, true});
    mm(rows, s.out, s.width, h2, s.width, 1, p + s.w2, s.out, 1, y, {p + s.b2});
}

void column_sums(int rows, int cols, const float* g, float* out) {
    std::fill(out, out + cols, 0.f);
    for (int i = 0; i < rows; i++)
        for (int n = 0; n < cols; n++) out[n] += g[(long)i * cols + n];
}

// Push dL/dy through hidden layers of `rows` samples into g2, g1 (rows, width).
void backward_hidden(Products& mm, const Shape& s, const float* p, int rows, const float* gy,
                     const float* h1, const float* h2, float* g1, float* g2) {
    mm(rows, s.width, s.out, gy, s.out, 1, p + s.w2, 1, s.out, g2, {nullptr, false, h2});
    mm(rows, s.width, s.width, g2, s.width, 1, p + s.w1, 1, s.width, g1, {nullptr, false, h1});
}

// Gradients of weights and biases from the first `rows` samples.
void backward_weights(Products& mm, const Shape& s, int rows, const float* x, const float* h1,
                      const float* h2, const float* g1, const float* g2, const float* gy, float* grad) {
    mm(s.in, s.width, rows, x, 1, s.in, g1, s.width, 1, grad + s.w0);
    mm(s.width, s.width, rows, h1, 1, s.width, g2, s.width, 1, grad + s.w1);
    mm(s.width, s.out, rows, h2, 1, s.width, gy, s.out, 1, grad + s.w2);
    column_sums(rows, s.width, g1, grad + s.b0);
    column_sums(rows, s.width, g2, grad + s.b1);
    column_sums(rows, s.out, gy, grad + s.b2);
}

struct Step {  // Adam constants of one update
    float rate, correct_second;
};

void adam(long n, float* p, float* m, float* v, const float* g, Step s) {
    for (long i = 0; i < n; i++) {
        m[i] += 0.1f * (g[i] - m[i]);
        v[i] = 0.999f * v[i] + 0.001f * g[i] * g[i];
        p[i] -= s.rate * m[i] / (std::sqrt(v[i] * s.correct_second) + 1e-8f);
    }
}

}  // namespace

struct Block {  // mirrored by sac_native.py: keep the order
    int64_t runs, updates, batch, obs, act, width, capacity, threads, step;
    float discount, tau, rate, target_entropy, reward_scale, log_std_min, log_std_max;
    float *critics, *targets, *actors, *log_alphas;  // (R,2,PC) (R,2,PC) (R,PA) (R,)
    float *critic_m, *critic_v, *actor_m, *actor_v, *alpha_m, *alpha_v;
    const float* rows;    // (R, capacity, D): obs | action | next obs | reward | terminated
    const int64_t* indices;  // (R, U, B)
    const float* noise;   // (R, U, 2B, A): current observations first, then next ones
    float* metrics;       // (R, 4): critic loss, mean q, entropy, temperature of the last update
};

static void train_agent(const Block& c, int64_t r) {
    const int B = c.batch, O = c.obs, A = c.act, W = c.width, X = O + A, D = 2 * O + A + 2;
    const Shape actor(O, W, 2 * A), critic(X, W, 1);
    float *q = c.critics + r * 2 * critic.total, *target = c.targets + r * 2 * critic.total;
    float *pi = c.actors + r * actor.total, *log_alpha = c.log_alphas + r;
    Products mm;
    auto room = [](long n) { return std::vector<float>(n); };
    auto both = room(2L * B * O), h1 = room(2L * B * W), h2 = h1, out = room(2L * B * 2 * A);
    auto action = room(2L * B * A), std_ = action, logp = room(2 * B);
    auto x = room(2L * B * X), xt = room(1L * B * X), reward = room(B), keep = room(B), y = room(B);
    auto k1 = room(4L * B * W), k2 = k1, value = room(4L * B), other = room(B);
    auto g1 = room(2L * B * W), g2 = g1, gv = room(4L * B), da = room(1L * B * A), part = da;
    auto gout = room(2L * B * A), gc = room(2 * critic.total), ga = room(actor.total);
    const float half_log_2pi = 0.9189385332f, log2 = 0.6931471806f;

    for (long u = 0; u < c.updates; u++) {
        const int64_t* index = c.indices + (r * c.updates + u) * B;
        const float* noise = c.noise + (r * c.updates + u) * 2 * B * A;
        for (int i = 0; i < B; i++) {
            const float* row = c.rows + (r * c.capacity + index[i]) * D;
            std::copy(row, row + O, &both[(long)i * O]);
            std::copy(row + X, row + X + O, &both[(long)(B + i) * O]);
            std::copy(row, row + X, &x[(long)i * X]);
            std::copy(row, row + O, &x[(long)(B + i) * X]);
            std::copy(row + X, row + X + O, &xt[(long)i * X]);
            reward[i] = row[D - 2];
            keep[i] = 1 - row[D - 1];
        }
        // --- actions of the current policy, for this and the next observation
        forward(mm, actor, pi, 2 * B, both.data(), h1.data(), h2.data(), out.data());
        const float alpha = std::exp(*log_alpha);
        for (int i = 0; i < 2 * B; i++) {
            float sum = 0;
            for (int a = 0; a < A; a++) {
                float e = noise[i * A + a], raw = out[i * 2 * A + A + a];
                float log_std = std::min(std::max(raw, c.log_std_min), c.log_std_max);
                float s = std::exp(log_std), pre = out[i * 2 * A + a] + s * e, z = -2 * pre;
                float softplus = std::max(z, 0.f) + std::log1p(std::exp(-std::fabs(z)));
                std_[i * A + a] = s;
                action[i * A + a] = std::tanh(pre);
                sum += -0.5f * e * e - log_std - half_log_2pi - 2 * (log2 - pre - softplus);
            }
            logp[i] = sum;
        }
        for (int i = 0; i < B; i++) {
            std::copy(&action[(long)i * A], &action[(long)i * A] + A, &x[(long)(B + i) * X + O]);
            std::copy(&action[(long)(B + i) * A], &action[(long)(B + i) * A] + A, &xt[(long)i * X + O]);
        }
        // --- bootstrap target: terminated only
        forward(mm, critic, target, B, xt.data(), k1.data(), k2.data(), y.data());
        forward(mm, critic, target + critic.total, B, xt.data(), k1.data(), k2.data(), other.data());
        for (int i = 0; i < B; i++)
            y[i] = c.reward_scale * reward[i] +
                   c.discount * keep[i] * (std::min(y[i], other[i]) - alpha * logp[B + i]);
        // --- critics: rows [0, B) carry the critic loss, rows [B, 2B) the actor's
        for (int j = 0; j < 2; j++)
            forward(mm, critic, q + j * critic.total, 2 * B, x.data(), &k1[2L * B * W * j],
                    &k2[2L * B * W * j], &value[2L * B * j]);
        float loss = 0, mean_q = 0, entropy = 0;
        for (int i = 0; i < B; i++) {
            float e0 = value[i] - y[i], e1 = value[2 * B + i] - y[i];
            gv[i] = e0 / B;
            gv[2 * B + i] = e1 / B;
            bool first = value[B + i] <= value[3 * B + i];
            gv[B + i] = first ? -1.f / B : 0;
            gv[3 * B + i] = first ? 0 : -1.f / B;
            loss += 0.5f * (e0 * e0 + e1 * e1) / B;
            mean_q += value[i] / B;
            entropy -= logp[i] / B;
        }
        std::fill(da.begin(), da.end(), 0.f);
        for (int j = 0; j < 2; j++) {
            const float *p = q + j * critic.total, *l1 = &k1[2L * B * W * j], *l2 = &k2[2L * B * W * j];
            const float* gy = &gv[2L * B * j];
            backward_hidden(mm, critic, p, 2 * B, gy, l1, l2, g1.data(), g2.data());
            backward_weights(mm, critic, B, x.data(), l1, l2, g1.data(), g2.data(), gy,
                             &gc[j * critic.total]);
            mm(B, A, W, &g1[(long)B * W], W, 1, p + (long)O * W, 1, W, part.data());
            for (long i = 0; i < (long)B * A; i++) da[i] += part[i];
        }
        // --- actor
        for (int i = 0; i < B; i++)
            for (int a = 0; a < A; a++) {
                float act = action[i * A + a], raw = out[i * 2 * A + A + a];
                float dpre = da[i * A + a] * (1 - act * act) + 2 * alpha / B * act;
                bool inside = raw > c.log_std_min && raw < c.log_std_max;
                gout[i * 2 * A + a] = dpre;
                gout[i * 2 * A + A + a] =
                    inside ? dpre * std_[i * A + a] * noise[i * A + a] - alpha / B : 0;
            }
        backward_hidden(mm, actor, pi, B, gout.data(), h1.data(), h2.data(), g1.data(), g2.data());
        backward_weights(mm, actor, B, both.data(), h1.data(), h2.data(), g1.data(), g2.data(),
                         gout.data(), ga.data());
        // --- steps
        const double t = double(c.step + u + 1);
        const Step s{float(c.rate / (1 - std::pow(0.9, t))), float(1 / (1 - std::pow(0.999, t)))};
        const float galpha = entropy - c.target_entropy;
        adam(2 * critic.total, q, c.critic_m + r * 2 * critic.total, c.critic_v + r * 2 * critic.total,
             gc.data(), s);
        adam(actor.total, pi, c.actor_m + r * actor.total, c.actor_v + r * actor.total, ga.data(), s);
        adam(1, log_alpha, c.alpha_m + r, c.alpha_v + r, &galpha, s);
        for (long i = 0; i < 2 * critic.total; i++) target[i] += c.tau * (q[i] - target[i]);
        float* m = c.metrics + r * 4;
        m[0] = loss, m[1] = mean_q, m[2] = entropy, m[3] = alpha;
    }
}

extern "C" void sac_block(const Block* block) {
    std::atomic<int64_t> next{0};
    auto work = [&] {
#ifdef __SSE__
        _mm_setcsr(_mm_getcsr() | 0x8040);  // flush denormals: decayed Adam moments would crawl
#endif
        for (int64_t r; (r = next++) < block->runs;) train_agent(*block, r);
    };
    std::vector<std::thread> team;
    for (int64_t i = 0; i < std::min(block->threads, block->runs); i++) team.emplace_back(work);
    for (auto& thread : team) thread.join();
}

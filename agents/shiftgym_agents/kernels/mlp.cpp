// Stacked MLPs on CPU cores: forward, backward, Adam and Polyak steps for many networks of one shape.
//
// Networks differ only in their weights, one flat row each (W0 b0 W1 b1 ..., see networks.pack), with ReLU
// between layers. Work is cut into (network, rows) pieces whose activations stay in a core's own cache:
// that, and not streaming every activation of all networks through memory once per operation, is what
// makes it faster than stacked tensor operations. A piece computes each of its numbers in an order that
// depends neither on the thread count nor on the other networks.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <mutex>
#include <vector>

#include "products.hpp"
#include "team.hpp"

namespace {

constexpr int MAX_LAYERS = 8;
constexpr int BLOCK = 64;   // rows that pass forward through all layers together, to stay in the cache
constexpr int CHUNK = 128;  // rows that one task pushes back, adding up their gradients in a fixed order

struct Shape {  // where one network's weights and one sample's hidden units lie
    int layers, widths[MAX_LAYERS + 1];
    long weight[MAX_LAYERS], bias[MAX_LAYERS], hidden[MAX_LAYERS], packed[MAX_LAYERS + 1] = {0};
    long total = 0, units = 0;
    Shape(int64_t n, const int64_t* sizes, bool transposed) : layers(n) {
        for (int i = 0; i <= layers; i++) widths[i] = sizes[i];
        for (int i = 0; i < layers; i++) {
            const int in = widths[i], out = widths[i + 1];
            weight[i] = total;
            bias[i] = total + (long)in * out;
            total = bias[i] + out;
            hidden[i] = units;  // of the layer's output; the last one is not kept
            if (i + 1 < layers) units += out;
            packed[i + 1] = packed[i] + (transposed ? packed_size(out, in) : packed_size(in, out));
        }
    }
    bool narrow(int layer) const { return layer == layers - 1 && widths[layers] <= NARROW; }
};

// Hidden units of one network: (units by layer, rows, width).
struct Hidden {
    float* base;
    long rows;
    float* operator()(const Shape& s, int layer, long row) const {
        return base + rows * s.hidden[layer] + row * s.widths[layer + 1];
    }
};

float* scratch(int which, size_t size) {
    thread_local std::vector<float> own[4];
    if (own[which].size() < size) own[which].resize(size);
    return own[which].data();
}

// Into how many pieces of each network to cut a pass so that no thread idles.
int pieces(int nets, int threads, int rows) {
    if (nets % threads == 0 || nets >= 8 * threads) return 1;
    return std::max(1, std::min(threads, rows / BLOCK));
}

// Piece `i` of `n` of a range, cut at multiples of the tile.
int cut(int size, int i, int n) {
    if (i == n) return size;
    return std::min(size, (size * i / n + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS);
}

// Push dL/dy of rows [from, from + count) back through the layers; give the sums of the weights' gradients.
void backward_chunk(const Shape& s, const float* p, const float* packed, const float* x, long x_row,
                    const float* gy, Hidden hidden, int from, int count, float* grad, float* gx) {
    float* pushed = scratch(1, CHUNK * s.units);
    const float* g = gy + (long)from * s.widths[s.layers];
    for (int i = s.layers - 1; i >= 0; i--) {
        const int w = s.widths[i + 1], below = s.widths[i];
        const float* a = i ? hidden(s, i - 1, from) : x + from * x_row;
        const long a_row = i ? below : x_row;
        if (grad) {
            if (s.narrow(i)) outer_narrow(below, w, count, a, a_row, g, grad + s.weight[i]);
            else {
                float* panels = scratch(2, packed_size(CHUNK, w));
                pack(count, w, g, w, 1, panels);
                multiply(below, w, count, a, 1, a_row, panels, grad + s.weight[i], w);
            }
            float* sums = grad + s.bias[i];
            std::fill(sums, sums + w, 0.f);
            for (int r = 0; r < count; r++)
                for (int k = 0; k < w; k++) sums[k] += g[(long)r * w + k];
        }
        if (!i && !gx) return;
        float* to = i ? pushed + CHUNK * s.hidden[i - 1] : gx + (long)from * below;
        multiply(count, below, w, g, w, 1, packed + s.packed[i], to, below, {nullptr, false, i ? a : nullptr});
        g = to;
    }
}

}  // namespace

extern "C" {

// y (nets, rows, out) = MLPs of x; `hidden`, unless null, keeps (nets, units by layer, rows, width) blocks.
// Network n reads batch n / share at x + (n / share) * x_net, rows x_row apart.
void mlp_forward(int64_t threads, int64_t nets, int64_t share, int64_t rows, int64_t layers,
                 const int64_t* sizes, const float* params, int64_t params_net, const float* x,
                 int64_t x_net, int64_t x_row, float* hidden, float* y) {
    const Shape s(layers, sizes, false);
    const int parts = pieces(nets, threads, rows), out = s.widths[layers];
    parallel(threads, nets * parts, [&](int task) {
        const int n = task / parts, part = task % parts, end = cut(rows, part + 1, parts);
        const float* p = params + n * params_net;
        float* packed = scratch(0, s.packed[layers]);
        for (int i = 0; i < layers; i++) {
            const int w = s.widths[i + 1], below = s.widths[i];
            if (!s.narrow(i)) pack(below, w, p + s.weight[i], w, 1, packed + s.packed[i]);
            else
                for (int k = 0; k < below; k++)
                    for (int j = 0; j < w; j++) packed[s.packed[i] + (long)j * below + k] = p[s.weight[i] + k * w + j];
        }
        const Hidden kept{hidden ? hidden + n * rows * s.units : nullptr, rows};
        const Hidden passing{hidden ? nullptr : scratch(1, BLOCK * s.units), BLOCK};
        for (int from = cut(rows, part, parts); from < end; from += BLOCK) {
            const int count = std::min(BLOCK, end - from);
            const float* in = x + (n / share) * x_net + from * x_row;
            long stride = x_row;
            for (int i = 0; i < layers; i++) {
                const int w = s.widths[i + 1], below = s.widths[i];
                const bool last = i + 1 == layers;
                float* to = last ? y + (n * rows + from) * out : hidden ? kept(s, i, from) : passing(s, i, 0);
                if (s.narrow(i))
                    multiply_narrow(count, w, below, in, stride, packed + s.packed[i], p + s.bias[i], to);
                else
                    multiply(count, w, below, in, stride, 1, packed + s.packed[i], to, w, {p + s.bias[i], !last});
                in = to;
                stride = w;
            }
        }
    });
}

// Gradients of sum(gy * y): grad (nets, total) unless null, gx (nets, rows, in) unless null.
// `hidden` is what mlp_forward kept.
void mlp_backward(int64_t threads, int64_t nets, int64_t share, int64_t rows, int64_t layers,
                  const int64_t* sizes, const float* params, int64_t params_net, const float* x,
                  int64_t x_net, int64_t x_row, float* hidden, const float* gy, float* grad, float* gx) {
    const Shape s(layers, sizes, true);
    const int chunks = (rows + CHUNK - 1) / CHUNK, out = s.widths[layers], in = s.widths[0];
    const bool whole = pieces(nets, threads, rows) == 1;  // one task pushes all chunks of a network back
    static std::vector<float> partial;  // sums of all chunks but the first
    static std::mutex one_at_a_time;
    std::lock_guard<std::mutex> lock(one_at_a_time);
    const long spare = grad && !whole ? (long)nets * (chunks - 1) * s.total : 0;
    if ((long)partial.size() < spare) partial.resize(spare);
    auto add = [&](float* __restrict to, const float* __restrict from) {
        for (long i = 0; i < s.total; i++) to[i] += from[i];
    };
    parallel(threads, whole ? nets : nets * chunks, [&](int task) {
        const int n = whole ? task : task / chunks, first = whole ? 0 : task % chunks;
        const float* p = params + n * params_net;
        float* packed = scratch(0, s.packed[layers]);
        for (int i = gx ? 0 : 1; i < layers; i++)
            pack(s.widths[i + 1], s.widths[i], p + s.weight[i], 1, s.widths[i + 1], packed + s.packed[i]);
        for (int chunk = first; chunk < (whole ? chunks : first + 1); chunk++) {
            const int from = chunk * CHUNK, count = std::min<int>(CHUNK, rows - from);
            float* own = nullptr;
            if (grad)
                own = !chunk ? grad + n * s.total
                      : whole ? scratch(3, s.total)
                              : partial.data() + ((long)n * (chunks - 1) + chunk - 1) * s.total;
            backward_chunk(s, p, packed, x + (n / share) * x_net, x_row, gy + n * rows * out,
                           Hidden{hidden + n * rows * s.units, rows}, from, count, own,
                           gx ? gx + n * rows * in : nullptr);
            if (own && chunk && whole) add(grad + n * s.total, own);
        }
    });
    if (!spare) return;
    parallel(threads, nets, [&](int n) {
        for (int chunk = 1; chunk < chunks; chunk++)
            add(grad + n * s.total, partial.data() + ((long)n * (chunks - 1) + chunk - 1) * s.total);
    });
}

// One Adam step on rows (nets, size): p -= rate[n] * m / (sqrt(v * second[n]) + eps).
void adam(int64_t threads, int64_t nets, int64_t size, float* params, float* first, float* square,
          const float* grad, const float* rate, const float* second, float new_m, float keep_v,
          float new_v, float epsilon) {
    constexpr long PIECE = 16384;
    const long parts = (size + PIECE - 1) / PIECE;
    parallel(threads, nets * parts, [&](int task) {
        const long n = task / parts, start = n * size + task % parts * PIECE;
        const long count = std::min(start + PIECE, (n + 1) * size) - start;
        float *__restrict p = params + start, *__restrict m = first + start, *__restrict v = square + start;
        const float* __restrict g = grad + start;
        const float step = rate[n], correct = second[n], add_m = new_m, add_v = new_v;
        const float decay = keep_v, tiny = epsilon;
        for (long i = 0; i < count; i++) {
            const float mi = m[i] + add_m * (g[i] - m[i]), vi = decay * v[i] + add_v * g[i] * g[i];
            m[i] = mi;
            v[i] = vi;
            p[i] -= step * mi / (std::sqrt(vi * correct) + tiny);
        }
    });
}

// to += share * (from - to), over `size` numbers.
void follow(int64_t threads, int64_t size, float* to, const float* from, float share) {
    constexpr long PIECE = 65536;
    parallel(threads, (size + PIECE - 1) / PIECE, [&](int task) {
        const long start = task * PIECE, count = std::min<long>(size - start, PIECE);
        float* __restrict a = to + start;
        const float* __restrict b = from + start;
        const float part = share;
        for (long i = 0; i < count; i++) a[i] += part * (b[i] - a[i]);
    });
}
}

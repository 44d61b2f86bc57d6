// Take one Adam step of stacked networks, and let their Polyak copies follow, in one pass.
//
// Eager operations read and write the rows some ten times a step; here each number is read once and
// written once. FIRST, SECOND, EPSILON and SHARE are defined by who compiles (see fused.py). Neither
// kernel uses shared memory or barriers, so that the same text also runs, thread by thread, on a CPU.

// steps += 1; scales[2 r], [2 r + 1] = step size / (1 - FIRST^steps), 1 / (1 - SECOND^steps) of run r.
// The step size falls along half a cosine over `decay` steps; 0 for never. One thread.
extern "C" __global__ void adam_scales(double* steps, float* scales, const double* rate, int runs,
                                       int decay) {
  const double before = steps[0], now = before + 1.0;
  double left = 1.0;
  if (decay > 0) {
    const double turn = (before < decay ? before : decay) * (3.14159265358979323846 / decay);
    left = 0.5 + 0.5 * cos(turn);
  }
  const double first = 1.0 - pow(FIRST, now), second = 1.0 / (1.0 - pow(SECOND, now));
  for (int run = 0; run < runs; ++run) {
    scales[2 * run] = static_cast<float>(rate[run] * left / first);
    scales[2 * run + 1] = static_cast<float>(second);
  }
  steps[0] = now;
}

// Rows p with moments m, v along gradients g, `row` numbers per run; then copy += SHARE (p - copy).
extern "C" __global__ void adam_step(float* p, float* m, float* v, float* copy, const float* g,
                                     const float* scales, int count, int row) {
  const int stride = gridDim.x * blockDim.x;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += stride) {
    const int run = i / row;
    const float slope = g[i];
    const float mean = m[i] + static_cast<float>(1.0 - FIRST) * (slope - m[i]);
    const float square =
        static_cast<float>(SECOND) * v[i] + static_cast<float>(1.0 - SECOND) * (slope * slope);
    const float root = sqrtf(square * scales[2 * run + 1]) + static_cast<float>(EPSILON);
    const float now = p[i] - scales[2 * run] * mean / root;
    m[i] = mean;
    v[i] = square;
    p[i] = now;
    if (SHARE > 0.0) copy[i] += static_cast<float>(SHARE) * (now - copy[i]);
  }
}

// Lets a CPU build of PyTorch hold tensors on `cuda:0` and `cuda:1`, with current devices and
// streams, so that autograd runs them on device threads. Nothing is computed here: see machine.py.
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <atomic>

namespace {

constexpr int COUNT = 2;
constexpr auto CUDA = c10::DeviceType::CUDA;
thread_local int current = 0;
thread_local int64_t streams[COUNT] = {0, 0};  // the current stream of each device
std::atomic<int64_t> last_stream{1};

int exchange(int device) {
  const int before = current;
  if (device >= 0) current = device;
  return before;
}

c10::Device device_of(int index) { return {CUDA, static_cast<c10::DeviceIndex>(index)}; }

c10::Stream stream_of(c10::Device device, int64_t id) {
  const int index = device.index() < 0 ? current : device.index();
  return c10::Stream(c10::Stream::UNSAFE, device_of(index), id);
}

struct Guard final : public c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return CUDA; }
  c10::DeviceIndex deviceCount() const noexcept override { return COUNT; }
  c10::Device getDevice() const override { return device_of(current); }
  c10::Device exchangeDevice(c10::Device to) const override { return device_of(exchange(to.index())); }
  void setDevice(c10::Device to) const override { exchange(to.index()); }
  void uncheckedSetDevice(c10::Device to) const noexcept override { exchange(to.index()); }

  c10::Stream getStream(c10::Device of) const noexcept override {
    return stream_of(of, streams[of.index() < 0 ? current : of.index()]);
  }
  c10::Stream getDefaultStream(c10::Device of) const override { return stream_of(of, 0); }
  c10::Stream getNewStream(c10::Device of, int) const override {
    return stream_of(of, ++last_stream);
  }
  c10::Stream exchangeStream(c10::Stream to) const noexcept override {
    const auto before = getStream(to.device());
    streams[to.device_index()] = to.id();
    return before;
  }

  // Everything is over as soon as it is asked for.
  void record(void** event, const c10::Stream&, const c10::DeviceIndex,
              const c10::EventFlag) const override {
    *event = const_cast<int64_t*>(&streams[0]);
  }
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
  void synchronizeEvent(void*) const override {}
};

Guard guard;
c10::impl::DeviceGuardImplRegistrar registrar(CUDA, &guard);

}  // namespace

namespace at {

struct CUDAHooks : public CUDAHooksInterface {
  explicit CUDAHooks(CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex deviceCount() const override { return COUNT; }
  int getNumGPUs() const override { return COUNT; }
  DeviceIndex current_device() const override { return current; }
  DeviceIndex getCurrentDevice() const override { return current; }
  void setCurrentDevice(DeviceIndex to) const override { exchange(to); }
  DeviceIndex exchangeDevice(DeviceIndex to) const override { return exchange(to); }
  DeviceIndex maybeExchangeDevice(DeviceIndex to) const override { return exchange(to); }
  void deviceSynchronize(DeviceIndex) const override {}
};
REGISTER_CUDA_HOOKS(CUDAHooks);

}  // namespace at

extern "C" {
int standin_count() { return COUNT; }
int standin_device() { return current; }
void standin_set_device(int device) { exchange(device); }
int64_t standin_stream(int device) { return streams[device]; }
void standin_set_stream(int device, int64_t id) { streams[device] = id; }
int64_t standin_new_stream() { return ++last_stream; }
}

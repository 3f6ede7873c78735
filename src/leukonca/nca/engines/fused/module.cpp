// The fused engine as a Python module. Tensors come as addresses: the module needs none of PyTorch's headers,
// which would take most of the time of a build.
#include <pybind11/pybind11.h>

#include "backward.h"
#include "forward.h"

namespace py = pybind11;

namespace {

template <class Format>
struct Passes {
  static void forward(const Job& job) { Forward<Format>(job).run(); }
  static void backward(const Job& job) { Backward<Format>(job).run(); }
};

void run_forward(const Job& job, bool half) {
#if defined(__AVX512BF16__)
  if (half) return Passes<Half>::forward(job);
#endif
  if (half) throw std::invalid_argument("this build has no bf16 products");
  Passes<Full>::forward(job);
}

void run_backward(const Job& job, bool half) {
#if defined(__AVX512BF16__)
  if (half) return Passes<Half>::backward(job);
#endif
  if (half) throw std::invalid_argument("this build has no bf16 products");
  Passes<Full>::backward(job);
}

// Writes to `counts` (int64 [batch]) how many sites of each picture fire in all steps.
void count_firing(const Job& job, uintptr_t counts) {
  std::vector<Buffer<int>> rooms;
  for (int i = 0; i < job.threads; ++i) rooms.emplace_back(static_cast<size_t>(job.rows) * job.columns + 1);
#pragma omp parallel for schedule(static) num_threads(job.threads)
  for (int picture = 0; picture < job.batch; ++picture) {
    int64_t count = 0;
    for (int step = job.first; step < job.last; ++step)
      count += firing_sites(at<uint32_t>(job.keys)[picture], step, 0, job.rows, job.columns, job.threshold,
                            rooms[this_thread()].data());
    at<int64_t>(counts)[picture] = count;
  }
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  auto job = py::class_<Job>(module, "Job", py::module_local()).def(py::init<>());
#define FIELD(name) job.def_readwrite(#name, &Job::name)
  FIELD(batch), FIELD(rows), FIELD(columns), FIELD(channels), FIELD(hidden), FIELD(first), FIELD(last);
  FIELD(threads), FIELD(threshold), FIELD(keys), FIELD(state), FIELD(filters), FIELD(hidden_weight);
  FIELD(hidden_bias), FIELD(update), FIELD(tape), FIELD(tape_starts), FIELD(gradient);
  FIELD(filters_gradient), FIELD(hidden_weight_gradient), FIELD(hidden_bias_gradient), FIELD(update_gradient);
#undef FIELD
  const auto unlocked = py::call_guard<py::gil_scoped_release>();
  module.def("forward", &run_forward, py::arg("job"), py::arg("half"), unlocked);
  module.def("backward", &run_backward, py::arg("job"), py::arg("half"), unlocked);
  module.def("count_firing", &count_firing, py::arg("job"), py::arg("counts"), unlocked);
  module.attr("width") = kWidth;
  module.attr("pad") = kPad;
  module.attr("block") = kBlock;
#if defined(_OPENMP)
  module.attr("openmp") = true;
#else
  module.attr("openmp") = false;
#endif
}

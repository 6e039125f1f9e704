#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "base/error.h"

NB_MODULE(_native, module) { module.def("error_code_names", &agentmux::error_code_names); }

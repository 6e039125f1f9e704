# Defines agentmux::llama: headers and shared libraries of the pinned llama.cpp.
if(AGENTMUX_LLAMA_ROOT)
  set(LLAMA_INCLUDE "${AGENTMUX_LLAMA_ROOT}/include")
  set(LLAMA_LIB "${AGENTMUX_LLAMA_ROOT}/lib")
else()
  find_package(Python 3.11 REQUIRED COMPONENTS Interpreter)
  # find_spec does not import the package, and so maps no library into this process.
  execute_process(
    COMMAND "${Python_EXECUTABLE}" -c "import importlib.util as u; print(u.find_spec('llama_cpp').submodule_search_locations[0])"
    OUTPUT_VARIABLE LLAMA_PACKAGE OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE LLAMA_FOUND ERROR_QUIET)
  if(NOT LLAMA_FOUND EQUAL 0)
    message(FATAL_ERROR "llama-cpp-python==0.3.36 is not installed for ${Python_EXECUTABLE}; install it or set AGENTMUX_LLAMA_ROOT")
  endif()
  set(LLAMA_INCLUDE "${LLAMA_PACKAGE}/../include")
  set(LLAMA_LIB "${LLAMA_PACKAGE}/lib")
endif()

if(NOT EXISTS "${LLAMA_INCLUDE}/llama.h")
  message(FATAL_ERROR "no llama.h in ${LLAMA_INCLUDE}")
endif()

add_library(agentmux_llama INTERFACE)
add_library(agentmux::llama ALIAS agentmux_llama)
target_include_directories(agentmux_llama SYSTEM INTERFACE "${LLAMA_INCLUDE}")
foreach(name llama ggml ggml-base)
  find_library(LLAMA_LIBRARY_${name} ${name} PATHS "${LLAMA_LIB}" NO_DEFAULT_PATH REQUIRED)
  target_link_libraries(agentmux_llama INTERFACE "${LLAMA_LIBRARY_${name}}")
endforeach()
# What libllama itself needs (libggml-cpu, libggml-cuda) lies beside it.
target_link_options(agentmux_llama INTERFACE "-Wl,-rpath-link,${LLAMA_LIB}")
message(STATUS "llama.cpp: ${LLAMA_LIB}")

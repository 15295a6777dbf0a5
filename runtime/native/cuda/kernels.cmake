# The CUDA half of the addon: src/cuda/. Its runtime is linked statically, cuBLASLt, NCCL and the driver are loaded when they are needed, so
# that the addon loads on every machine. scripts/build-cuda.sh names the compiler.
set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
set(CUDA_ARCHITECTURES 80-real 90a-real 100 CACHE STRING "Compute capabilities; of the newest also what a driver can compile for those to come")
set(CMAKE_CUDA_ARCHITECTURES ${CUDA_ARCHITECTURES})
enable_language(CUDA)
# CMake before 3.26 does not know that nvcc has it.
set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)

file(GLOB CUDA_SOURCES CONFIGURE_DEPENDS src/cuda/*.cu src/cuda/*.cc)
add_library(internvl_cuda OBJECT ${CUDA_SOURCES})
set_target_properties(internvl_cuda PROPERTIES
  CXX_STANDARD 20 CXX_STANDARD_REQUIRED ON CXX_EXTENSIONS OFF CUDA_STANDARD 20 CUDA_EXTENSIONS OFF POSITION_INDEPENDENT_CODE ON
  CXX_VISIBILITY_PRESET hidden CUDA_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
target_include_directories(internvl_cuda PRIVATE src)
target_include_directories(internvl_cuda SYSTEM PRIVATE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
target_compile_options(internvl_cuda PRIVATE
  "$<$<COMPILE_LANGUAGE:CXX>:-O3;-Wall;-Wextra>"
  # Not --use_fast_math: results are compared with the CPU's.
  "$<$<COMPILE_LANGUAGE:CUDA>:-O3;--expt-relaxed-constexpr;--compress-mode=size;-Xcompiler=-Wall,-Wextra;-Xcudafe=--display_error_number>")

target_sources(internvl_native PRIVATE $<TARGET_OBJECTS:internvl_cuda>)
# It stands where these are left out.
set_source_files_properties(src/no_cuda.cc PROPERTIES HEADER_FILE_ONLY ON)
# The runtime's own symbols stay inside.
target_link_options(internvl_native PRIVATE LINKER:--exclude-libs,ALL)
set_target_properties(internvl_native PROPERTIES CUDA_RUNTIME_LIBRARY Static)

# The addon with the CUDA backend run on the host (-DWITH_CUDA=HOST), for tests: scripts/build-native.sh --cuda-on-host
add_subdirectory(${CMAKE_CURRENT_LIST_DIR} cuda_on_host)

file(GLOB CUDA_SOURCES CONFIGURE_DEPENDS src/cuda/*.cu src/cuda/*.cc ${CMAKE_CURRENT_LIST_DIR}/stubs/*.cu)
target_include_directories(internvl_native PRIVATE ${CMAKE_CURRENT_LIST_DIR}/stubs)
cuda_on_host_sources(internvl_native ${CUDA_SOURCES})

# no_cuda.cc stands where these are left out.
set_source_files_properties(src/no_cuda.cc PROPERTIES HEADER_FILE_ONLY ON)

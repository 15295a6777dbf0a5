# The addon with the CUDA backend run on the host (-DWITH_CUDA=HOST): scripts/build-native.sh --cuda-on-host
add_subdirectory(${CMAKE_CURRENT_LIST_DIR} cuda_on_host)
get_directory_property(CUDA_BACKEND_SOURCES DIRECTORY ${CMAKE_CURRENT_LIST_DIR} DEFINITION CUDA_BACKEND_SOURCES)
cuda_on_host_sources(internvl_native ${CUDA_BACKEND_SOURCES})

# no_cuda.cc stands where these are left out.
set_source_files_properties(src/no_cuda.cc PROPERTIES HEADER_FILE_ONLY ON)

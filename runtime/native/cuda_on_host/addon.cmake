# The addon with the CUDA backend run on the host (-DWITH_CUDA=HOST): scripts/build-native.sh --cuda-on-host
add_subdirectory(${CMAKE_CURRENT_LIST_DIR} cuda_on_host)
target_link_libraries(internvl_native PRIVATE cuda_backend_on_host)
# no_cuda.cc stands where the backend is left out.
set_source_files_properties(src/no_cuda.cc PROPERTIES HEADER_FILE_ONLY ON)

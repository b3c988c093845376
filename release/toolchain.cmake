# Libraries that load on glibc 2.28 and newer (manylinux_2_28), built on any Linux: g++ compiles, so that the
# kernels are those of a plain build, and zig, which knows the symbols of every glibc, links.
#
#   cmake -DCMAKE_TOOLCHAIN_FILE=release/toolchain.cmake -DJDA_ARCH=aarch64 ...
set(JDA_ARCH "" CACHE STRING "x86_64 or aarch64")
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR ${JDA_ARCH})
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES JDA_ARCH)
set(compilers ${JDA_ARCH}-linux-gnu-g++)
if(JDA_ARCH STREQUAL CMAKE_HOST_SYSTEM_PROCESSOR)
  list(APPEND compilers g++)
endif()
find_program(CMAKE_CXX_COMPILER NAMES ${compilers})
if(NOT CMAKE_CXX_COMPILER)
  message(FATAL_ERROR "no g++ for JDA_ARCH='${JDA_ARCH}'. On Debian: apt-get install g++-aarch64-linux-gnu, "
                      "or g++-x86-64-linux-gnu on another processor")
endif()

find_package(Python REQUIRED COMPONENTS Interpreter)
# g++'s own C++ runtime: a compiler's headers and library belong together. Only what looks for the handler of
# an exception is zig's, since g++'s has questions that glibc 2.28 does not answer.
foreach(archive libstdc++.a libgcc.a)
  execute_process(COMMAND ${CMAKE_CXX_COMPILER} -print-file-name=${archive}
    OUTPUT_VARIABLE found OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  list(APPEND runtime ${found})
endforeach()
set(link ${Python_EXECUTABLE} -m ziglang cc -target ${JDA_ARCH}-linux-gnu.2.28 -O2 -shared -Wl,-z,defs
  -Wno-unused-command-line-argument <LINK_FLAGS> -o <TARGET>
  <OBJECTS> ${CMAKE_CURRENT_LIST_DIR}/newer_glibc.c <LINK_LIBRARIES> ${runtime} -lunwind)
list(JOIN link " " CMAKE_CXX_CREATE_SHARED_MODULE)

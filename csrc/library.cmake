# What the native libraries have in common: a module of Python's package that brings its own C++ runtime,
# so that it loads beside any other, and is hardened as distributions ask for.
include_guard()
set(jda_csrc ${CMAKE_CURRENT_LIST_DIR})

function(jda_library name)
  add_library(${name} MODULE ${ARGN})
  target_compile_features(${name} PRIVATE cxx_std_17)
  target_compile_options(${name} PRIVATE -Wall -Wextra -Wno-psabi -fstack-protector-strong
    # No path of the machine that builds it: the same sources are the same bytes anywhere.
    -ffile-prefix-map=${jda_csrc}=csrc -ffile-prefix-map=${CMAKE_BINARY_DIR}=build
    -ffile-prefix-map=${JDA_XLA_FFI_INCLUDE}=include
    # Some compilers have set it already.
    -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
  target_include_directories(${name} PRIVATE ${jda_csrc})
  target_include_directories(${name} SYSTEM PRIVATE ${JDA_XLA_FFI_INCLUDE})
  set_target_properties(${name} PROPERTIES
    PREFIX lib CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  if(CMAKE_SYSTEM_NAME STREQUAL Linux)
    set(exports ${jda_csrc}/exports.map)
    set_property(TARGET ${name} APPEND PROPERTY LINK_DEPENDS ${exports})
    target_link_options(${name} PRIVATE -static-libstdc++ -static-libgcc
      LINKER:--gc-sections,-z,relro,-z,now,-z,noexecstack LINKER:--version-script=${exports})
  endif()
  install(TARGETS ${name} LIBRARY DESTINATION jda/ffi)
endfunction()

# `cmake --install`: the binary and its man page, a library and the headers of every floor, and what find_package(Causeway) reads.
include(CMakePackageConfigHelpers)

install(TARGETS causeway causeway_kernels causeway_parallel causeway_hdf5_guard causeway_io causeway_app EXPORT CausewayTargets)
foreach(floor kernels parallel io src)
  install(DIRECTORY ${floor} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/causeway FILES_MATCHING PATTERN "*.hpp"
          PATTERN "cpu" EXCLUDE PATTERN "cuda" EXCLUDE)
endforeach()

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/Causeway)
configure_package_config_file(scripts/cmake/CausewayConfig.cmake.in CausewayConfig.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(CausewayConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/CausewayConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/CausewayConfigVersion.cmake DESTINATION ${package_dir})
install(EXPORT CausewayTargets NAMESPACE Causeway:: DESTINATION ${package_dir})

# The program writes its own man page.
set(man_page ${CMAKE_CURRENT_BINARY_DIR}/causeway.1)
add_custom_command(OUTPUT ${man_page} COMMAND causeway --man > ${man_page} DEPENDS causeway VERBATIM)
add_custom_target(man ALL DEPENDS ${man_page})
install(FILES ${man_page} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)

# Templates of batch jobs, to be copied; they find what they share, job.sh, here.
install(DIRECTORY scripts/slurm/ DESTINATION ${CMAKE_INSTALL_DATADIR}/causeway/slurm USE_SOURCE_PERMISSIONS)

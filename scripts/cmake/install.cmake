# `cmake --install`: the program with its man page and completion scripts, the library and the headers of every floor,
# and the files that find_package(Causeway) reads.
include(CMakePackageConfigHelpers)

install(TARGETS causeway causeway_kernels causeway_parallel causeway_hdf5_guard causeway_io causeway_app
        EXPORT CausewayTargets)
foreach(floor kernels parallel io src)
  install(DIRECTORY ${floor} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/causeway FILES_MATCHING PATTERN "*.hpp"
          PATTERN "cpu" EXCLUDE PATTERN "cuda" EXCLUDE)
endforeach()

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/Causeway)
configure_package_config_file(scripts/cmake/CausewayConfig.cmake.in CausewayConfig.cmake
                              INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(CausewayConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/CausewayConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/CausewayConfigVersion.cmake
        DESTINATION ${package_dir})
install(EXPORT CausewayTargets NAMESPACE Causeway:: DESTINATION ${package_dir})

# The program writes its man page and the completion scripts from its option table. This is part of building it, so that
# `cmake --install` works after `cmake --build … --target causeway`, which is all that scripts/quickstart builds.
set(man_page ${CMAKE_CURRENT_BINARY_DIR}/causeway.1)
set(bash_completion ${CMAKE_CURRENT_BINARY_DIR}/completion/bash/causeway)
set(zsh_completion ${CMAKE_CURRENT_BINARY_DIR}/completion/zsh/_causeway)
file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/completion/bash ${CMAKE_CURRENT_BINARY_DIR}/completion/zsh)
add_custom_command(TARGET causeway POST_BUILD
                   COMMAND causeway --man > ${man_page}
                   COMMAND causeway --completion bash > ${bash_completion}
                   COMMAND causeway --completion zsh > ${zsh_completion}
                   BYPRODUCTS ${man_page} ${bash_completion} ${zsh_completion} VERBATIM)
install(FILES ${man_page} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${bash_completion} DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
install(FILES ${zsh_completion} DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)

# Templates of batch jobs, to be copied. The copies find job.sh, which they share, here.
install(DIRECTORY scripts/slurm/ DESTINATION ${CMAKE_INSTALL_DATADIR}/causeway/slurm USE_SOURCE_PERMISSIONS)
# Scaling experiments. They need Python, and look for what they share in ../python.
install(DIRECTORY scripts/scaling/ DESTINATION ${CMAKE_INSTALL_DATADIR}/causeway/scaling USE_SOURCE_PERMISSIONS
        PATTERN "results" EXCLUDE PATTERN "quick" EXCLUDE PATTERN "__pycache__" EXCLUDE)
install(FILES scripts/python/causeway_script.py DESTINATION ${CMAKE_INSTALL_DATADIR}/causeway/python)
install(FILES scripts/mpi-env DESTINATION ${CMAKE_INSTALL_DATADIR}/causeway)

# Installs the build in BUILD into an empty prefix; then configures, builds and runs the consumer in this folder with
# it.
set(work ${BUILD}/tests/consumer)
file(REMOVE_RECURSE ${work})
execute_process(COMMAND ${CMAKE_COMMAND} --install ${BUILD} --prefix ${work}/prefix OUTPUT_QUIET
                COMMAND_ERROR_IS_FATAL ANY)
foreach(file bin/causeway share/man/man1/causeway.1 share/bash-completion/completions/causeway
             share/zsh/site-functions/_causeway share/causeway/slurm/job.sh)
  if(NOT EXISTS ${work}/prefix/${file})
    message(FATAL_ERROR "${file} was not installed")
  endif()
endforeach()
execute_process(COMMAND ${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR} -B ${work}/build -G ${GENERATOR}
                        -DCMAKE_PREFIX_PATH=${work}/prefix -DCMAKE_CXX_COMPILER=${COMPILER} COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${CMAKE_COMMAND} --build ${work}/build COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${work}/build/consumer COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${work}/prefix/bin/causeway --version COMMAND_ERROR_IS_FATAL ANY)

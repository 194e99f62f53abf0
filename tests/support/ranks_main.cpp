#include "tests/support/ranks.hpp"

int main(int argc, char** argv) { return causeway::test::run_all_tests(argc, argv); }

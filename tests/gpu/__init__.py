"""What needs a GPU: make gpu runs these. On the CPU, to test the tests, with GPU_TESTS_ON=cpu."""

#pragma once

#include "kernels/cuda/device/launch.cuh"
#include "kernels/cuda/hyena_block/hyena_block.cuh"

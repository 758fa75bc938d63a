"""The real step on a GPU that is not there: on fake CUDA tensors, which have no data.

- ``device.py`` opens the device, with what ``guard.cpp`` and ``gsplat_kernels.py`` stand in for.
- ``watch.py`` sees every operator and answers those that need data; ``counts.py`` counts.
- ``cases.py`` makes a step for any choices, and ``cover.py`` chooses few cases with all pairs.
- ``table.yaml`` says what a step may cost, and is the only file that a cheaper step changes.
- ``python -m tests.fakegpu`` takes the product of the choices, which lasts a night.
"""

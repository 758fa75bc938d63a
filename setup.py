"""What pyproject.toml cannot say: the shipped configs lie beside the package, not inside it."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["esd_splat", "esd_splat.*"]), "esd_splat.configs"],
    package_dir={"esd_splat.configs": "configs"},
)

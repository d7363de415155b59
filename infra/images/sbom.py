"""What is in an image, as a CycloneDX 1.6 bill of materials: ``sbom.py IMAGE…``, a file each.

Packages of Debian and of Python, as the image itself knows them. Files go to ``dist/sbom``.
"""

import json
import subprocess
import sys
from pathlib import Path

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

DIRECTORY = Path("dist") / "sbom"
_DEBIAN = ["dpkg-query", "--show", "--showformat", "${Package} ${Version} ${Architecture}\n"]
_DISTRIBUTIONS = """
import platform
from importlib.metadata import distributions
print("python", platform.python_version())
for each in distributions():
    print(each.metadata["Name"], each.version)
"""
# nginx's image has no Python.
_PYTHON = ["sh", "-c", '! command -v python >/dev/null || python -c "$0"', _DISTRIBUTIONS]


def inside(image: str, command: list[str]) -> list[list[str]]:
    """What a command in the image prints, by line and word.

    Raises:
        subprocess.CalledProcessError: it failed; the image is not what it must be.
    """
    docker = ["docker", "run", "--rm", "--network", "none", "--entrypoint", command[0], image]
    output = subprocess.run([*docker, *command[1:]], check=True, stdout=subprocess.PIPE, text=True)
    return [line.split() for line in output.stdout.splitlines()]


def components(image: str) -> list[Component]:
    """Each package once."""
    found = {
        PackageURL("deb", "debian", name, version, {"arch": architecture})
        for name, version, architecture in inside(image, _DEBIAN)
    }
    found |= {
        # Python itself need not be Debian's.
        PackageURL("generic", None, name, version)
        if name == "python"
        else PackageURL("pypi", None, name.lower().replace("_", "-"), version)
        for name, version in inside(image, _PYTHON)
    }
    return [
        Component(
            name=package.name,
            version=package.version,
            type=ComponentType.LIBRARY,
            purl=package,
            bom_ref=str(package),
        )
        for package in sorted(found, key=str)
    ]


def bill(image: str) -> str:
    """The bill of one image, held against CycloneDX's own schema."""
    inspect = ["docker", "image", "inspect", image]
    output = subprocess.run(inspect, check=True, stdout=subprocess.PIPE, text=True).stdout
    described = json.loads(output)[0]
    labels = described["Config"]["Labels"]
    bom = Bom(components=components(image))
    bom.metadata.component = Component(
        name=image.partition(":")[0],
        version=labels["org.opencontainers.image.version"],
        type=ComponentType.CONTAINER,
        bom_ref=described["Id"],
    )
    bom.register_dependency(bom.metadata.component, bom.components)
    text = JsonV1Dot6(bom).output_as_string(indent=2)
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if wrong:
        raise ValueError(f"{image}: {wrong}")
    return text


def main(images: list[str]) -> None:
    """Write the bills, and say where."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    for image in images:
        text = bill(image)
        path = DIRECTORY / f"{image.replace(':', '-')}.cdx.json"
        path.write_text(text + "\n")
        print(f"{path}  {len(json.loads(text)['components'])} packages")


main(sys.argv[1:])

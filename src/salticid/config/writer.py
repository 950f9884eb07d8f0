"""Write a resolved configuration as YAML."""

from typing import Any

import yaml

from salticid.config.reader import CoreLoader


class _Dumper(yaml.SafeDumper):
    """Writes text so that both YAML 1.1 and the reader of configurations read it as text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_short_list(self, data: list) -> yaml.Node:
        flow = not any(isinstance(item, dict | list) for item in data)
        return self.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=flow)


_Dumper.add_representer(list, _Dumper.represent_short_list)
for _first, _resolvers in CoreLoader.yaml_implicit_resolvers.items():
    for _tag, _pattern in _resolvers:
        _Dumper.add_implicit_resolver(_tag, _pattern, [_first])


def to_yaml(config: dict[str, Any]) -> str:
    """A resolved configuration as text that reads back to the same."""
    return yaml.dump(config, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)

"""``aclruntime.session_options``."""

from __future__ import annotations

from standin import settings


class SessionOptions:
    """What a session is made with. Types are checked when a field is set; other names are refused."""

    loop: int
    log_level: int
    acl_json_path: str

    def __init__(self) -> None:
        self.loop, self.log_level, self.acl_json_path = 1, 2, ""
        if settings.current().generation == "N":
            self.weight_dir, self.without_graph = "", False

    def __setattr__(self, name: str, value: object) -> None:
        kinds: dict[str, type] = {"loop": int, "log_level": int, "acl_json_path": str}
        if settings.current().generation == "N":
            kinds |= {"weight_dir": str, "without_graph": bool}
        if name not in kinds:
            raise AttributeError(f"session_options has no attribute {name!r}")
        if not isinstance(value, kinds[name]):
            raise TypeError(f"session_options.{name}: incompatible function arguments: {value!r}")
        super().__setattr__(name, value)

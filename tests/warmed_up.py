"""Imported by the process that others are forked from: what libraries do when they are used first is done there."""

import sqlalchemy.orm
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from tests import stores

sqlalchemy.orm.configure_mappers()
stores.last_migration()
OverridesParser.create().parse_overrides(["a=b", "a.b=[c,'d e']", "+a={b:1,c:0.5}", "a/b@c=d,e", "~a", "a=range(3)"])
assert OmegaConf.create({"a": "${b}/c", "b": 1}).a == "1/c"

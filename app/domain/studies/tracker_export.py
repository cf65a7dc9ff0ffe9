"""How the export of a study to the installation's experiment tracker stands."""

from typing import Literal

TrackerState = Literal["waiting", "private", "live", "exported", "failed"]
"""`waiting`: an attempt follows or goes on; `private`: one follows once the team sees the study; `live`: it is exported
at intervals until it ends; `failed`: no attempt follows."""

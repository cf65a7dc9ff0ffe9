"""What the tests of features share with those of the core."""

from tests.integration.conftest import api, study_server
from tests.support.servers.supervised import claim, here, meanwhile
from tests.unit.web.conftest import empty, full, registered_only, with_language

__all__ = ["api", "claim", "empty", "full", "here", "meanwhile", "registered_only", "study_server", "with_language"]

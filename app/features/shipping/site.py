"""Exports, pushes, parity checks and the registry on the web."""

from app.features.shipping.api import exports as exports_api
from app.features.shipping.api import parity_checks
from app.features.shipping.api import pushes as pushes_api
from app.features.shipping.api import registry as registry_api
from app.features.shipping.pages import exports, parity, pushes, registry
from app.features.shipping.words import exports as exports_words
from app.features.shipping.words import model_card
from app.features.shipping.words import parity as parity_words
from app.features.shipping.words import registry as registry_words
from app.web.site import Section, Site

SITE = Site(
    pages=(exports.router, pushes.router, parity.router, registry.router),
    api=(exports_api.router, pushes_api.router, parity_checks.router, registry_api.router),
    public_api=(exports_api.public_router,),
    words=(exports_words, model_card, parity_words, registry_words),
    run_sections=(
        Section("evidence", "shipping/exports.html", exports.section_of),
        Section("evidence", "shipping/parity_section.html", parity.section_of, order=1),
    ),
    actions={"models": "shipping/of_models.html"},
)

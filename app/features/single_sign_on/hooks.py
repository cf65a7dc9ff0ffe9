"""What services call of single sign-on."""

from app.features.single_sign_on.services import openid
from app.services.hooks import Hooks

HOOKS = Hooks(sweep=openid.forget, accept_profile=openid.accept)

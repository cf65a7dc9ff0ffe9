"""Synthetic messages to a shop with a preferred and another reply: the packaged sample of preference tuning.

No package with preference pairs under a free licence was found, so these are made from templates by a generator with a
fixed seed: the same on every machine. They are no natural text, and a score on them says nothing about natural
preferences. What is preferred follows three house rules, one for each pair, and chosen answers are as long as rejected
ones, but for chance:

    desk     the reply names the desk of the message's subject, which is arbitrary: the blue desk repairs
    date     the reply writes a date as 12 March, not as March 12
    tone     the reply apologizes to a complaint and thanks for praise, not the other way round

Half of the messages and of the replies of each kind occur in validation and test only.
"""

import random
from collections.abc import Callable, Iterator, Sequence

from app.domain.data.dataset import PreferenceRow, Split, item_name

SIZES: dict[Split, int] = {"train": 160, "validation": 24, "test": 160}
PRODUCTS = [
    *("kettle", "lamp", "chair", "radio", "clock", "toaster", "fan", "desk", "mixer", "heater", "mirror", "shelf"),
    *("iron", "stove", "phone", "camera", "guitar", "tent", "bicycle", "drill", "vase", "printer", "scale", "blender"),
]
DESKS = {"repair": "blue", "delivery": "green", "bill": "white", "return": "grey"}
"""The desk of each subject."""
SUBJECTS = {
    "repair": [
        *("My {} stopped working.", "The {} is broken.", "The {} makes a strange noise.", "My {} no longer turns on."),
        *("One part of the {} came off.", "The {} has a crack.", "Can you mend my {}?", "My {} fell apart today."),
    ],
    "delivery": [
        *(
            "My {} has not arrived.",
            "Where is my {}?",
            "When will you deliver the {}?",
            "The {} should be here by now.",
        ),
        *("I am still waiting for the {}.", "Has the {} been sent?", "The parcel with the {} is late.", "No {} came."),
    ],
    "bill": [
        *("I paid twice for the {}.", "The price of the {} is wrong.", "Please send a receipt for the {}."),
        *(
            "What do I owe for the {}?",
            "The {} costs more on my card.",
            "I was charged for a {}.",
            "The {} was cheaper.",
        ),
        *("Can I pay for the {} later?",),
    ],
    "return": [
        *("I want to send the {} back.", "The {} is not what I wanted.", "Please take back the {}."),
        *(
            "I no longer need the {}.",
            "Can I swap the {}?",
            "The {} does not fit, I do not want it.",
            "I do not like the {}.",
        ),
        *("How do I give back the {}?",),
    ],
}
GRUMBLES = [
    *("The {} is a disappointment.", "I am angry about the {}.", "Never again will I buy a {}.", "The {} is awful."),
    *("What a bad {}!", "I regret buying the {}.", "The {} is a waste of money.", "Your {} let me down."),
]
PRAISES = [
    *("The {} is wonderful.", "I am delighted with the {}.", "I would buy the {} again.", "The {} is a joy."),
    *("What a great {}!", "I am glad I bought the {}.", "The {} is worth every penny.", "Your {} made my day."),
]
DESK_REPLIES = [
    *("The {} desk will help you.", "Please call the {} desk.", "Our {} desk takes care of it.", "Ask at the {} desk."),
    *(
        "I passed this to the {} desk.",
        "The {} desk will write to you.",
        "This is for the {} desk.",
        "See the {} desk.",
    ),
]
DATE_REPLIES = [
    *("We will call you on {}.", "Please come by on {}.", "We are open again on {}.", "You will hear from us by {}."),
    *("Someone will be there on {}.", "We will write before {}.", "Our sale starts on {}.", "Ring us after {}."),
]
MONTHS = ["January", "March", "April", "June", "July", "August", "October", "December"]
SORRY = [
    *(
        "We are sorry to hear that.",
        "Please accept our apologies.",
        "We apologize for this.",
        "That should not happen.",
    ),
    *("Sorry, we will do better.", "We regret this very much.", "Our apologies for the trouble.", "This is our fault."),
]
THANKS = [
    *(
        "We are happy to hear that.",
        "Thank you for your kind words.",
        "How nice of you to say.",
        "That makes us proud.",
    ),
    *(
        "Thanks, we will tell the team.",
        "We are glad that you like it.",
        "Thank you for telling us.",
        "What lovely news.",
    ),
]
Halves = Callable[[Sequence[str]], str]


def pairs() -> list[PreferenceRow]:
    """The rows of every split, each prompt once, with the three rules in turn."""
    draw = random.Random(21)
    rows: dict[str, PreferenceRow] = {}
    for split, size in SIZES.items():
        made = _pairs(draw, seen=split == "train")
        fresh = 0
        while fresh < size:
            prompt, chosen, rejected = next(made)
            item = item_name(prompt)
            if item not in rows:
                rows[item] = PreferenceRow(item, split, prompt, chosen, rejected)
                fresh += 1
    return list(rows.values())


def _pairs(draw: random.Random, seen: bool) -> Iterator[tuple[str, str, str]]:
    """Prompt, chosen and rejected reply, endlessly. `seen`: of the first half of each list of templates."""

    def one(templates: Sequence[str]) -> str:
        half = len(templates) // 2
        return draw.choice(templates[:half] if seen else templates[half:])

    while True:
        for rule in (_desk, _date, _tone):
            message, chosen, rejected = rule(draw, one)
            yield f"Customer: {message.format(draw.choice(PRODUCTS))}\nShop:", f" {chosen}", f" {rejected}"


def _desk(draw: random.Random, one: Halves) -> tuple[str, str, str]:
    subject, other = draw.sample(sorted(DESKS), 2)
    reply = one(DESK_REPLIES)
    return one(SUBJECTS[subject]), reply.format(DESKS[subject]), reply.format(DESKS[other])


def _date(draw: random.Random, one: Halves) -> tuple[str, str, str]:
    day, month, reply = draw.randrange(10, 29), draw.choice(MONTHS), one(DATE_REPLIES)
    message = one(SUBJECTS[draw.choice(sorted(SUBJECTS))])
    return message, reply.format(f"{day} {month}"), reply.format(f"{month} {day}")


def _tone(draw: random.Random, one: Halves) -> tuple[str, str, str]:
    sorry, thanks = one(SORRY), one(THANKS)
    if draw.random() < 0.5:
        return one(GRUMBLES), sorry, thanks
    return one(PRAISES), thanks, sorry

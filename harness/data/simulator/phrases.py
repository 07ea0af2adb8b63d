"""The texts of the embedded data: word lists, and for each task family its phrasings with slots to fill.

The vocabulary is small on purpose: a byte-level BPE of some 2,000 entries covers it.
"""

from __future__ import annotations

from dataclasses import dataclass


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES = _words("Anna Ben Carla David Emma Felix Grace Henry Irene Jonas Karen Leo Maria Nora Oscar Paula Simon Tina")
CITIES = _words("Berlin Boston Cairo Dublin London Madrid Oslo Paris Prague Rome Tokyo Vienna")
JOBS = _words("baker doctor driver farmer lawyer nurse painter pilot singer teacher waiter writer")
DAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = _words("January February March April May June July August September October November December")
THINGS = _words("bag book bottle basket camera candle chair clock coat cup desk door lamp mirror phone plate")
ANIMALS = _words("bear camel cat cow dog fox goat horse lion mouse sheep tiger")
FRUITS = _words("apple banana cherry grape lemon mango melon peach pear plum")
CATEGORIES = {
    "animals": ANIMALS,
    "colours": _words("black blue brown green grey orange pink purple red white yellow"),
    "fruits": FRUITS,
    "tools": _words("drill hammer ladder nail rope saw screw shovel spade"),
    "vegetables": _words("bean cabbage carrot leek onion pea pepper potato spinach tomato"),
}
VERBS = (  # base, past, participle
    ("break", "broke", "broken"),
    ("carry", "carried", "carried"),
    ("clean", "cleaned", "cleaned"),
    ("draw", "drew", "drawn"),
    ("find", "found", "found"),
    ("open", "opened", "opened"),
    ("paint", "painted", "painted"),
    ("repair", "repaired", "repaired"),
    ("sell", "sold", "sold"),
    ("take", "took", "taken"),
)
OPPOSITES = (
    ("big", "small"),
    ("cold", "hot"),
    ("dark", "light"),
    ("early", "late"),
    ("empty", "full"),
    ("fast", "slow"),
    ("happy", "sad"),
    ("quiet", "loud"),
    ("rich", "poor"),
    ("strong", "weak"),
    ("wet", "dry"),
    ("young", "old"),
)
UNITS = (  # large unit, small unit, small units in a large one
    ("hours", "minutes", 60),
    ("minutes", "seconds", 60),
    ("days", "hours", 24),
    ("weeks", "days", 7),
    ("years", "months", 12),
    ("metres", "centimetres", 100),
    ("kilometres", "metres", 1000),
    ("kilograms", "grams", 1000),
)
ABSURD = _words("purple nothing yesterday spaghetti Saturn pancakes whatever unicorn")
"""Words that are the right answer to no task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrasing:
    """What the prompts and the answers of one family may say; `{slots}` are filled by the family."""

    ask: tuple[str, ...]
    frame: tuple[str, ...]
    """The answer as a sentence; `{answer}` stands for the answer proper, right or wrong."""
    reason: tuple[str, ...]
    tip: tuple[str, ...]


PHRASINGS = {
    "sort words": Phrasing(
        ask=(
            "Sort these words {order}: {given}.",
            "Please put the following words in order {order}: {given}.",
            "Arrange {order} the words {given}.",
        ),
        frame=("The sorted words are {answer}.", "In order the words are {answer}."),
        reason=(
            "I compared the first letters of all the words.",
            "The words go {order}, so I looked at their letters.",
        ),
        tip=("Look at the second letter when two words begin alike.", "Cross out each word that you have used."),
    ),
    "sort numbers": Phrasing(
        ask=(
            "Sort the numbers {given} {order}.",
            "Please arrange {given} {order}.",
            "Put these numbers in order {order}: {given}.",
        ),
        frame=("The sorted numbers are {answer}.", "In order the numbers are {answer}."),
        reason=("I compared the tens and then the ones.", "Going {order} I always took the next number."),
        tip=("Count the numbers again at the end.", "Begin with the numbers that have one digit."),
    ),
    "arithmetic": Phrasing(
        ask=(
            "{name} has {rows} shelves with {each} {thing}s each and sells {gone} of them. How many {thing}s are left?",
            "There are {rows} rows of {each} {thing}s. {name} takes {gone} away. Work out how many {thing}s remain.",
            "{name} buys {rows} packs of {each} {thing}s and loses {gone}. Calculate how many {thing}s are left.",
        ),
        frame=("There are {answer} {thing}s left.", "{name} has {answer} {thing}s in the end."),
        reason=("We multiply {rows} by {each} and subtract {gone}.", "From {rows} times {each} we take {gone} away."),
        tip=("Write down the product before you subtract.", "Check the sum by adding the parts again."),
    ),
    "extract": Phrasing(
        ask=(
            "Find the {field} in this sentence: On {day} the {job} {name} left a {thing} in {city}.",
            "Which {field} is named in the text? {name}, a {job} from {city}, bought a {thing} on {day}.",
            "Extract the {field} from the note: The {job} {name} came to {city} on {day} with a {thing}.",
        ),
        frame=("The {field} is {answer}.", "The text gives {answer} as the {field}."),
        reason=("It stands in the sentence about {name}.", "No other word of the text can be a {field}."),
        tip=("Read the sentence twice and mark each fact.", "Ask yourself who, where and when."),
    ),
    "rewrite": Phrasing(
        ask=(
            "Rewrite this sentence {form}: {given}",
            "Please put the next sentence {form}. {given}",
            "Change the sentence so that it stands {form}: {given}",
        ),
        frame=("The new sentence is: {answer}", "It now reads: {answer}"),
        reason=("The verb {verb} has to change its form.", "The old sentence about the {thing} was not {form}."),
        tip=("Read the new sentence aloud.", "Find the verb first and then move the other words."),
    ),
    "count": Phrasing(
        ask=(
            "Count the {kind} in this list: {given}.",
            "How many {kind} are there in the list {given}?",
            "Tell me the number of {kind} among {given}.",
        ),
        frame=("There are {answer} {kind} in the list.", "I count {answer} {kind} here."),
        reason=("The other words of the list are {other}.", "I marked all the {kind} and counted the marks."),
        tip=("Put a mark under each word that you count.", "Count once from the left and once from the right."),
    ),
    "compare": Phrasing(
        ask=(
            "A {first} costs {p} euros and a {second} costs {q} euros. Which one is {word}?",
            "Compare a {first} for {p} euros with a {second} for {q} euros and choose the {word} one.",
            "I can buy a {first} at {p} euros or a {second} at {q} euros. Tell me which is {word}.",
        ),
        frame=("The {answer} is {word}.", "I choose the {answer}, which is {word}."),
        reason=("The price of {low} euros is below {high} euros.", "I compared {p} euros with {q} euros."),
        tip=("Compare the quality and not only the price.", "Wait for a sale before you buy."),
    ),
    "list items": Phrasing(
        ask=(
            "{name} needs a list of {count} {kind}, none beginning with {letter}.",
            "Name {count} {kind} for {name}, but no word beginning with {letter}.",
            "Give {name} {count} examples of {kind} that do not begin with {letter}.",
        ),
        frame=("Some {kind} are {answer}.", "Here are {count} {kind}: {answer}."),
        reason=("All of them are {kind} that {name} may know.", "Not one begins with the letter {letter}."),
        tip=("Think of a shop or a picture book.", "Say the first letter of each word aloud."),
    ),
    "summary": Phrasing(
        ask=(
            "Summarise this: {name} is from {home}. On {day} {name} met {friend} in {city}. They {past} a {thing}.",
            "Say what happens. On {day} {name} met {friend} in {city}. They {past} a {thing} and left for {home}.",
            "Sum up the story: {name} and {friend} left {home} on {day}. They came to {city} and {past} a {thing}.",
        ),
        frame=("In short, {answer}.", "The story says that {answer}."),
        reason=("To {verb} the {thing} is the main event.", "The visit to {city} matters more than the rest."),
        tip=("Leave out the names of days.", "Keep who, what and where in a summary."),
    ),
    "convert": Phrasing(
        ask=(
            "Convert {amount} {large} to {small} for {name}.",
            "{name} asks how many {small} there are in {amount} {large}.",
            "Help {name} to express {amount} {large} in {small}.",
        ),
        frame=("That is {answer} {small}.", "{amount} {large} are {answer} {small}."),
        reason=("We multiply {amount} by {factor}.", "One of the {large} holds {factor} {small}."),
        tip=("Learn the factor by heart.", "Estimate the size before you multiply."),
    ),
    "date": Phrasing(
        ask=(
            "Today is {day}. {name} meets the {job} in {city} {ahead} days from now. Which weekday is that?",
            "{name} leaves for {city} on {day} and sees a {job} {ahead} days later. Tell me the weekday.",
            "On {day} {name} says: I will call the {job} from {city} in {ahead} days. Name the day of the call.",
        ),
        frame=("The day is a {answer}.", "It will be a {answer} for {name}."),
        reason=("I counted {ahead} days on from {day}.", "The weekdays repeat after seven days."),
        tip=("Use a calendar when the number is large.", "Take away full weeks before you count."),
    ),
    "opposites": Phrasing(
        ask=(
            "Give the opposites of {given}.",
            "What are the opposites of the words {given}?",
            "Write down the opposite of each word: {given}.",
        ),
        frame=("The opposites are {answer}.", "The words with the other meaning are {answer}."),
        reason=("Nothing can be {word} and its opposite at once.", "The word {word} is one end of a scale."),
        tip=("Use each word in a sentence.", "Think of two pictures that differ in one thing."),
    ),
}

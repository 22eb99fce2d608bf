"""Values for slots: order numbers, names, cities, products and the like, half of them made up.

Does not know where a value is said. A share of values is made up of syllables, so that an answer can
only be right by copying.

Invariant: a value is either for training or held out, by its checksum, never both.
"""

import zlib

ONE_IN_HELD = 8

FIRST = """Anna Ben Clara David Elena Felix Grace Hugo Irina James Karin Liam Maria Noah Olivia Paul Quentin Rosa Sam Tina
Ugo Vera Walter Xenia Yusuf Zoe Ahmed Bianca Carlos Diana Emil Fatima George Hanna Ivan Julia Kofi Laura Marco Nadia Oscar
Priya Raj Sofia Thomas Ursula Victor Wendy Aisha Bruno Chen Dmitri Eva Frank Greta Hiro Ines Jack Kim Lucas Mia Nina Omar
Peter Ruth Stefan Tom Sarah John Mary Robert Linda Michael Susan Daniel Emma Alex Chris""".split()
LAST = """Smith Jones Miller Brown Garcia Rossi Weber Novak Silva Kumar Tanaka Larsen Dubois Kowalski Murphy Haddad Petrov
Nguyen Okafor Fischer Moreau Santos Berg Lopez Wagner Andersson Costa Meyer Singh Clark Evans""".split()
CITY = """Berlin Paris London Madrid Rome Vienna Oslo Dublin Lisbon Prague Warsaw Athens Zurich Hamburg Munich Lyon Porto
Milan Turin Naples Bristol Leeds Glasgow Boston Chicago Denver Seattle Austin Toronto Sydney Perth Oxford Geneva Basel Graz
Ghent Utrecht Krakow Malmo Bergen Aarhus Cologne Leipzig Nantes Seville Valencia Cork Dallas Miami Atlanta""".split()
CITY += ["New York", "San Diego", "Cape Town", "Tel Aviv", "Hong Kong", "The Hague", "Los Angeles"]
COUNTRY = """France Spain Italy Germany Austria Switzerland Poland Norway Sweden Finland Denmark Ireland Portugal Greece
Japan Canada Brazil Mexico Australia India China Turkey Egypt Kenya Iceland Hungary Romania Croatia Belgium Chile Peru
Singapore Malta Estonia Latvia Israel Morocco Argentina Thailand Serbia""".split()
COUNTRY += ["New Zealand", "South Africa", "the Netherlands", "the United States", "the UK", "South Korea", "the USA"]
NOUN = """headphones lamp backpack kettle jacket watch speaker tent keyboard blender camera chair boots monitor toaster mug
helmet vacuum drill phone tablet router mattress suitcase umbrella sneakers sofa desk scooter printer""".split()
SHOP_WORD = """Blue North Green Urban Little Happy Silver Bright Old River Sunny Maple Cedar Harbor Garden Market Corner Home
Sport Book Tech Style Trade Trail Kitchen Craft Fox Owl""".split()
DOMAINS = ["gmail.com", "mail.com", "example.com", "outlook.com", "web.example", "post.example", "yahoo.com"]
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November"]
MONTHS += ["December", "Jan", "Feb", "Mar", "Aug", "Sept", "Oct"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]
ONSETS = "b br c ch d dr f fl g gr h j k kl l m n p pl qu r s sh st t tr v w z".split()
VOWELS = "a e i o u ai ea io ou y".split()
CODAS = ["", "", "", "n", "r", "l", "s", "x", "nd", "st", "m", "ck", "t"]


def made_up(rng, least, most):
    return "".join(
        rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS) for _ in range(rng.randint(least, most))
    )


def digits(rng, n_digits):
    return str(rng.randint(1, 9)) + "".join(str(rng.randint(0, 9)) for _ in range(n_digits - 1))


def order(rng):
    letters = "".join(rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(rng.randint(1, 3)))
    shape = rng.random()
    if shape < 0.6:
        return digits(rng, rng.choice([4, 5, 5, 6, 6, 7, 8, 9, 10]))
    if shape < 0.75:
        return f"{letters}-{digits(rng, rng.randint(3, 6))}"
    if shape < 0.85:
        return letters + digits(rng, rng.randint(4, 7))
    if shape < 0.95:
        return f"{digits(rng, rng.randint(2, 4))}-{digits(rng, rng.randint(3, 6))}"
    return f"ORD-{digits(rng, rng.randint(3, 6))}"


def name(rng):
    first = rng.choice(FIRST) if rng.random() < 0.6 else made_up(rng, 1, 3).capitalize()
    if rng.random() < 0.7:
        return first
    last = rng.choice(LAST) if rng.random() < 0.6 else made_up(rng, 2, 3).capitalize()
    return f"{first} {last}"


def email(rng):
    user = rng.choice(FIRST).lower() if rng.random() < 0.5 else made_up(rng, 2, 3)
    user += rng.choice(["", "", ".", "_"]) + (rng.choice(LAST).lower() if rng.random() < 0.4 else "")
    user = user.rstrip("._") + (digits(rng, rng.randint(1, 4)) if rng.random() < 0.5 else "")
    domain = rng.choice(DOMAINS) if rng.random() < 0.7 else f"{made_up(rng, 1, 3)}.{rng.choice(['com', 'net', 'org'])}"
    return f"{user}@{domain}"


def product(rng):
    maker = made_up(rng, 1, 3).capitalize()
    shape = rng.random()
    if shape < 0.4:
        return f"{maker} {rng.choice(NOUN)}"
    if shape < 0.6:
        return f"{maker} {rng.choice('ABCDEFGLMNPRSTVXZ')}{digits(rng, rng.randint(1, 3))}"
    if shape < 0.8:
        return f"{maker} {digits(rng, rng.randint(1, 4))} {rng.choice(NOUN)}"
    return f"{maker} {rng.choice(['Pro', 'Mini', 'Max', 'Air', 'Plus', 'Light'])} {rng.choice(NOUN)}"


def shop(rng):
    shape = rng.random()
    if shape < 0.4:
        return f"{rng.choice(SHOP_WORD)} {rng.choice(SHOP_WORD)}"
    if shape < 0.8:
        return made_up(rng, 2, 3).capitalize()
    return f"{made_up(rng, 1, 2).capitalize()} {rng.choice(['Store', 'Shop', '& Co', 'Outlet', 'Market'])}"


def date(rng):
    day, month = rng.randint(1, 28), rng.choice(MONTHS)
    shape = rng.random()
    if shape < 0.35:
        return rng.choice(DAYS)
    if shape < 0.65:
        return f"{month} {day}"
    return f"{day} {month}" if shape < 0.85 else f"{day}/{rng.randint(1, 12)}"


def listed(values, share_made_up):
    return lambda rng: made_up(rng, 2, 3).capitalize() if rng.random() < share_made_up else rng.choice(values)


MAKERS = {
    "order": order,
    "name": name,
    "person": listed(FIRST, 0.3),
    "email": email,
    "product": product,
    "shop": shop,
    "date": date,
    "city": listed(CITY, 0.35),
    "country": listed(COUNTRY, 0.2),
    "plan": listed(["Free", "Plus", "Premium", "Gold", "Silver", "Pro", "Standard", "Basic"], 0.15),
    "amount": lambda rng: f"${rng.randint(5, 400)}" + rng.choice(["", "", ".50", ".99"]),
    "odd": lambda rng: made_up(rng, 1, 3),
}


def is_held(value):
    return zlib.crc32(value.encode()) % ONE_IN_HELD == 0


def new_value(kind, rng, held):
    """A value that belongs to the asked side of the split."""
    while True:
        value = MAKERS[kind](rng)
        if is_held(value) == held:
            return value

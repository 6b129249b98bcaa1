"""The words the demo model's data is made of: names, faults, sentences.

Everything here was written for this project.  generator.py draws from these lists; the only thing
it never draws from a list is a product's name, because a model trained on a list of names learns
the list instead of learning to copy.
"""

# --- product names -------------------------------------------------------------------------------

ONSETS = """
    b bl br c ch cl d dr f fl g gl gr h j k kl kr l m n p pl pr qu r s sh sk st t tr v w y z
""".split()
VOWELS = "a e i o u ai au ea ee ei ia io oo ou y".split()
CODAS = ["", "", "", "n", "r", "l", "x", "s", "m", "t", "k", "nd", "rk", "sh", "ck", "nt", "ll"]

COMPOUND_WORDS = """
    aero air alpha amber apex aqua arc arctic atlas aura beam bird black blue bolt boost bright
    brook calm care cedar charm chef city clean clear click cloud coast cool copper core craft
    crystal cube dash data dawn delta dream drift dust eagle earth easy echo eco edge ember epic
    ever falcon fast fire first flame flash flex flow fly force forest fox fresh frost fuel fusion
    galaxy gear ghost giga glide glow gold grand green grip guard halo happy hawk heat hero home
    hover hyper ice iron jet jump kids king kite lake laser leaf life light lime lion logic loop
    luna lux magic max maple master mega metro mind mini mint mist moon motion neo nest net night
    north nova ocean omega one onyx open orbit oven owl panda path peak perfect phone pilot pixel
    play polar pop port power press prime pro pulse pure quick quiet rain rapid raven ray river
    road robo rock rocket royal sail sand scout sea shadow sharp shine silent silver sky sleek
    smart smooth snap solar solid sonic sound space spark speed spin spirit spring star steam steel
    stone storm stream strong summit sun super surf swift sync tech temp thunder tiger time titan
    top touch trail trek true tune turbo twin ultra uni urban vac valley vapor velvet view vision
    vital viva volt wave way well whisper wild wind wing winter wise wolf wonder work world zen
    zero zip zone zoom
""".split()

TYPE_WORDS = [
    "kettle", "router", "headset", "vacuum cleaner", "coffee maker", "printer", "blender",
    "smart lamp", "air purifier", "toaster", "webcam", "keyboard", "power bank", "drill",
    "hair dryer", "tablet", "monitor", "speaker", "thermostat", "electric bike", "lawn mower",
    "dishwasher", "smartwatch", "camera", "microwave", "heater", "fan", "doorbell", "scale",
    "projector", "phone", "laptop", "mixer", "scooter", "mouse", "shaver", "toothbrush", "radio",
    "fridge", "freezer", "oven", "iron", "sewing machine", "washing machine", "pump", "charger",
    "watch", "TV", "soundbar", "rice cooker", "juicer", "grill",
]
SUFFIXES = ["Pro", "Plus", "Mini", "Max", "Lite", "Go", "SE", "II", "Ultra", "Air", "Neo", "XL"]
UNITS = ["V", "W", "L", "K", "GB", "mm", " inch", " L"]

# Invented, but shaped like names on a shop's shelf.  Never drawn in training; evaluate.sql reports
# how often the model copies them.
REAL_LOOKING = [
    "ThinPad Z1 Carbon", "Nebula S24 Ultra", "Roomvac i7", "AeroBrew Go", "PowerMax 3000",
    "uPhone 15 Pro", "Phelps SonicClean 4100", "Borsch drill GSB 18V", "Kindler Paperlight",
    "Tyson V11", "LaserWriter M404", "Espressia Vertigo", "FitBand Charge 6", "Ekko Spot",
    "WaterFlosser 660", "KitchenMaid mixer", "Sonny WH-1000XM5", "ProGo Hero 12",
    "Brethren MFC-L2710", "Logicool MX Master 3", "Acme blender 500", "Telfar ActiFryer",
    "Miaoxi scooter", "Brown Series 9", "Samsong Frame 55", "Lenora Yogi Slim 7",
    "Garvin Forerunner 265", "Makito DHP484", "Dewald DCD796", "Karchner K5 Premium",
    "Anchor PowerCore 20000", "Sonoss Beam", "Bozé QuietComfort 45", "Jabber Elite 85t",
    "Canton EOS R10", "Nikkon Z50", "Instapot Duo 7", "Vitamax E310", "NutriBlast 900",
    "Bissel CrossWave", "Eufie RoboVac 11S", "Philco Hue Go", "Ringer Video Doorbell 4",
    "Nestly Thermostat E", "Honeywall T6", "Whirlpole AutoDry", "Mahle-Haus Compact C3",
    "Nindo-Chef AF101", "Rowento Focus", "Segwave Ninebolt Max G30",
]

# --- faults --------------------------------------------------------------------------------------
# (what the summary says, category, phrasings seen in training, phrasings held out as unknown words)

FAULTS = [
    ("does not turn on", "hardware",
     ["it will not switch on any more", "nothing happens when I press the power button",
      "it is completely dead", "it doesn't turn on", "it won't start",
      "I cannot get it to power up"],
     ["pressing start has no effect at all", "there is no sign of life in it"]),
    ("overheats", "safety",
     ["it gets burning hot after a few minutes", "the case becomes too hot to touch",
      "it shuts down from the heat", "it overheats", "it gets far too hot",
      "it becomes so hot that I am afraid of a fire"],
     ["I could fry an egg on it", "its temperature climbs until it stops"]),
    ("leaks water", "hardware",
     ["there is water all over the counter", "it drips from the bottom",
      "a puddle forms under it", "it leaks", "water leaks out of it",
      "it leaves water everywhere"],
     ["the floor below it was soaked", "everything around it is wet"]),
    ("makes a loud noise", "hardware",
     ["it rattles terribly", "there is a grinding sound",
      "it is so loud that my neighbours complain", "it makes a loud noise",
      "it makes a horrible noise", "it is much too loud"],
     ["it screeches when it runs", "my ears hurt from the racket"]),
    ("battery drains fast", "battery",
     ["the battery is empty after an hour", "I must charge it three times a day",
      "it hardly holds a charge", "the battery drains very fast",
      "the battery does not last until noon", "the battery dies far too quickly"],
     ["the charge is gone by lunch", "it runs out of juice within minutes"]),
    ("screen flickers", "hardware",
     ["the display blinks all the time", "the picture flashes on and off",
      "the screen keeps flickering", "the display flickers", "the screen flickers",
      "there are flickering lines on the screen"],
     ["the image jumps every second", "what it shows is never steady"]),
    ("loses the connection", "software",
     ["it drops the wifi every evening", "the connection breaks again and again",
      "it goes offline without warning", "it loses the connection",
      "it keeps losing the wifi", "the bluetooth connection drops all the time"],
     ["it keeps disconnecting from my network", "it cannot stay online"]),
    ("arrived damaged", "delivery",
     ["the box was crushed and the case is cracked", "it came with a broken corner",
      "there was a big dent when I unpacked it", "it arrived damaged",
      "it was broken when it arrived", "the glass was cracked when I opened the parcel"],
     ["it was smashed on arrival", "the courier must have thrown it around"]),
    ("is missing a part", "delivery",
     ["the cable was not in the box", "there were no screws in the package",
      "one part is missing", "a part is missing", "the manual and the plug are missing",
      "the box did not contain the adapter"],
     ["the lid was not included", "I got an incomplete set"]),
    ("was delivered late", "delivery",
     ["it came two weeks after the promised date", "I waited a month for it",
      "the parcel was ten days late", "it was delivered late", "the delivery was very late",
      "it arrived much later than promised"],
     ["the shipping took forever", "you kept me waiting until summer"]),
    ("smells of burning", "safety",
     ["there is a smell of burnt plastic", "it smells scorched",
      "smoke came out of the back", "it smells of burning", "there is a burning smell",
      "it smells as if something burns inside"],
     ["it stinks like melting rubber", "the room was full of fumes"]),
    ("has a stuck button", "hardware",
     ["one button does not come back up", "the main button is jammed",
      "the switch is stuck", "a button is stuck", "the power button got stuck",
      "I can no longer move the switch"],
     ["the key stays down when I press it", "the knob will not budge"]),
    ("was charged twice", "billing",
     ["you took the money two times", "my card shows two payments for it",
      "I was billed double", "I was charged twice", "the payment was taken twice",
      "I paid two times for one order"],
     ["the amount was debited again", "my bank account lists the purchase once too often"]),
    ("update fails", "software",
     ["the firmware update stops halfway", "it hangs while installing the update",
      "the new software will not install", "the update fails",
      "the update always ends with an error", "it cannot install the latest update"],
     ["the upgrade aborts at ten percent", "the new version never finishes loading"]),
    ("does not charge", "battery",
     ["it will not charge at all", "the charging light stays off",
      "plugging it in does nothing", "it doesn't charge", "it won't charge any more",
      "it stays at zero percent on the charger"],
     ["the cable does not load it any more", "the socket gives it no power"]),
    ("is the wrong colour", "delivery",
     ["I ordered black and got white", "it came in red instead of blue",
      "the colour is not what I chose", "it has the wrong colour", "you sent the wrong colour",
      "I wanted a silver one and this one is green"],
     ["it is yellow although I picked grey", "its shade differs from the picture"]),
]

PRAISES = [
    ("is easy to use", ["it is easy to use", "I had it running in two minutes",
                        "even my grandmother can use it", "it is very simple to handle"]),
    ("is very quiet", ["it is very quiet", "I can hardly hear it", "it makes almost no sound",
                       "it never wakes the baby"]),
    ("looks beautiful", ["it looks beautiful", "the design is lovely",
                         "it looks great in our kitchen", "everybody says how pretty it is"]),
    ("is good value", ["it is good value for money", "it was cheap and it is really good",
                       "I got a lot for a small price", "the price is more than fair"]),
    ("lasts a long time", ["it lasts all week", "it has worked for years without a problem",
                           "it seems to last forever", "it is very well built"]),
    ("works fast", ["it is very fast", "it does the job in seconds", "it saves me a lot of time",
                    "it works faster than my old one"]),
]

# --- sentences of a ticket -----------------------------------------------------------------------
# {p} product, {ap} product with a/an, {d} date, {n} a first name, {f} fault clause, {F} the same
# with a capital letter, {o} order number, {q} another product.

GREETINGS = ["Hello,", "Hi there,", "Hi,", "Dear support team,", "Good morning,", "Dear all,",
             "To whom it may concern,", "Good evening,"]

LEADS = [
    "I bought the {p} on {d}.", "My {p} from {d} is a problem.", "On {d} I got the {p}.",
    "We ordered {ap} on {d} for the office.", "The {p} (bought {d}) worries me.",
    "My husband gave me the {p} on {d}.", "I have a problem with my {p}.",
    "This is about the {p} I ordered on {d}.", "I am writing about my {p}.",
    "I own {ap}.", "Our new {p} is not what we hoped for.", "I recently bought {ap}.",
    "There is something wrong with the {p} that I bought on {d}.",
    "Subject: {p}.", "My daughter has used {ap} since {d}.", "We have had {ap} since {d}.",
]
NAME_FIRST_LEADS = ["{p}, bought on {d}.", "{p} from {d}.", "{p}: a problem.", "{p} again!"]

FAULT_FRAMES = [
    "Since yesterday {f}.", "Unfortunately {f}.", "After a week {f}.", "Now {f}.",
    "To be honest, {f}.", "I noticed that {f}.", "{F}.", "{F}!", "The problem: {f}.",
    "Sadly {f}.", "I must say that {f}.", "Since last month {f}.",
]

# Sentences of brief tickets: with the fault as the summary words it ({f}), where that starts with
# one of the verbs, and with a clause.
VERBS = ["does", "overheats", "leaks", "makes", "loses", "arrived", "is", "smells", "has"]
DIRECT_FRAMES = ["My {p} {f}.", "The {p} {f}.", "My new {p} {f}!", "Help, my {p} {f}.",
                 "Our {p} {f}.", "The {p} that I bought on {d} {f}."]
BRIEF_FRAMES = ["I have a problem with my {p}: {f}.", "My {p} is a problem: {f}.",
                "About my {p}: {f}.", "The {p} is no good, {f}.", "I bought {ap} and {f}.",
                "I got the {p} on {d} and {f}."]

ORDERS = ["The order number is {o}.", "Order {o}.", "My order number: {o}.",
          "I have already written about order {o}.", "You will find it under order {o}."]

NEGATIVE = ["This is very annoying.", "I am really angry.", "Never again!", "I am disappointed.",
            "This is not acceptable.", "I am fed up.", "What a waste of money.",
            "I regret that I bought it.", "That is bad service.", "I am very unhappy about this."]
POSITIVE = ["Otherwise I like it.", "No hurry, and thanks for your help.",
            "Your service was always great.", "It is a small thing.", "Apart from that I love it.",
            "I am still a happy customer.", "Thank you for your kind support.",
            "You have always helped me quickly.", "I am sure that you will solve this.",
            "All in all I am pleased."]

ASIDES = ["My old one from another maker lasted ten years.", "I use it every day.",
          "A friend of mine, {n}, has the same one and is happy.",
          "I tried everything in the manual.", "My old {q} never did that.",
          "Before that I had {aq}.", "I have attached a photo.", "I am at home in the evening.",
          "My neighbour {n} says that this is normal.", "I kept the box and the bill."]

WANTS = [
    ("a refund", ["Please refund me.", "I want my money back.", "I would like a refund.",
                  "Could I have a refund?", "I expect a refund."]),
    ("a replacement", ["Please send me a new one.", "I would like a replacement.",
                       "I want a replacement.", "Could you replace it?", "Please exchange it."]),
    ("a repair", ["Please repair it.", "Can you fix it?", "I would like to have it repaired.",
                  "I want it repaired.", "Could I have a repair?"]),
    ("a call back", ["Please call me back.", "Please give me a call.",
                     "I would like a call back.", "Could somebody phone me?"]),
    ("an apology", ["I expect an apology.", "I want an apology.", "You should apologise.",
                    "Please apologise."]),
    ("a discount", ["I want a discount.", "Could I have a discount?", "I expect a discount.",
                    "I think that I deserve a discount."]),
    ("advice", ["What can I do?", "Please tell me what to do.", "Do you have any advice?",
                "How can I solve this?"]),
]

# --- sentences of a review -----------------------------------------------------------------------

REVIEW_LEADS = [
    "I bought the {p} on {d}.", "I have used the {p} for some weeks.",
    "My review of the {p}.", "Here is what I think of the {p}.", "Review: {p}.",
    "We got {ap} in {m}.", "This is my second {p}.", "I tested the {p} at home.",
]
PRAISE_FRAMES = ["I can say that {f}.", "{F}.", "What I like: {f}.", "{F}!", "I love that {f}.",
                 "The best thing: {f}."]
STARS_GOOD = ["Five stars.", "Four stars.", "5/5", "4 out of 5 stars.", "Full marks."]
STARS_BAD = ["One star.", "Two stars.", "1/5", "2 out of 5 stars.", "Zero stars."]
REVIEW_POSITIVE = ["I am very happy with it.", "I would buy it again.", "What a great buy.",
                   "The whole family loves it.", "All in all I am pleased."]
REVIEW_NEGATIVE = ["I am disappointed.", "I regret that I bought it.", "What a waste of money.",
                   "Never again!", "I am very unhappy with it."]
VERDICT_GOOD = ["I recommend it.", "I can recommend it to everybody.", "Buy it!",
                "I would recommend it to a friend."]
VERDICT_BAD = ["Do not buy it.", "I cannot recommend it.", "Stay away from it.",
               "I advise against it."]

# --- filler of long texts ------------------------------------------------------------------------

FILLERS = [
    "I live on the third floor and the parcel was left with my neighbour {n}.",
    "First I read the manual from the first page to the last page.",
    "Then I asked {n} from work, who knows a lot about such things.",
    "On {d} I tried it again in another room.", "It made no difference at all.",
    "The weather was warm that week, but I do not think that this matters.",
    "I also looked at your website, where I found nothing about it.",
    "Your colleague {n} on the phone was friendly and wrote everything down.",
    "I waited for twenty minutes on the phone.", "The bill is from {d}.",
    "We are a family of four and use it in the morning and in the evening.",
    "I cleaned it with a soft cloth as the manual says.",
    "{n} had a look at it too.", "Nobody had an idea what to do.",
    "I put it back into the box and left it there for some days.",
    "On {d} I wrote to you for the first time.", "So far I got no answer.",
    "The shop in town told me to write to you.", "I paid with my card as always.",
    "It stands in the kitchen next to the window.", "Nobody has dropped it.",
    "I have a picture of it if you need one.", "The box is still here.",
    "You can reach me after six in the evening.", "I will be away from {d} on.",
    "My order has the number {o}.", "I have been your customer for many years.",
    "In the past everything I bought from you was good.",
    "I do not want to complain about the driver, who was very kind.",
    "Maybe it is only a small thing that I did not see.",
    "I talked to {n} and {n2} about it yesterday.", "Both told me to contact you.",
    "My {q} is in the same room and works well.", "I hope that this helps you.",
]

# --- people and dates ----------------------------------------------------------------------------

FIRST_NAMES = """
    Anna Ben Carla David Eva Frank Grace Hugo Ines Jack Kira Leo Mara Nils Olga Paul Rosa Sam Tina
    Uwe Vera Will Yara Zoe Alex Bella Chris Dana Emil Fiona George Hanna Ivan Julia Karl Lena Max
    Nora Oscar Petra Robin Sofia Tom Ulla Victor Wanda
""".split()
LAST_NAMES = """
    Adler Baker Carter Dorn Ellis Fischer Grant Hansen Irving Jansen Keller Lopez Meyer Novak Olsen
    Porter Quinn Rossi Silva Turner Unger Vogel Walsh Young Ziegler
""".split()
MONTHS = """
    January February March April May June July August September October November December
""".split()

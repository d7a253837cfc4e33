"""Word lists from which the synthetic documents are made."""

ADJECTIVES = """amber ancient arctic autumn azure bitter blazing bold brave brief bright broken bronze calm careful
civil clever cobalt copper coral cosmic crimson crisp crystal curious daring deep distant dusty eager early
eastern electric elegant emerald empty endless faint fair famous fierce final forest fresh frosty gentle
giant gilded golden graceful grand granite green hidden hollow humble icy idle inner iron ivory jade jolly
keen late lively lonely lucky lunar magic marble mellow mighty misty modern narrow noble northern olive
open orange pale patient plain polished proud purple quick quiet rapid rare restless royal ruby rustic
sacred scarlet secret sharp silent silver simple sleepy solar solid southern spare stable steady stormy
strange sturdy subtle sunny swift tall tender thirsty timid tiny tranquil true upper urban vast velvet
violet vivid warm weary western wild windy wise wooden young""".split()

NOUNS = """acorn anchor anvil apple arrow badger bakery balcony banner barrel basin basket beacon beaver bell
bicycle blanket boat bottle bridge brook bucket butterfly cabin cactus camera candle canyon carpet castle
cavern cedar chapel cherry cliff clock cloud comet compass cottage cradle crane creek cricket crown dagger
daisy desert dolphin dragon drum eagle echo elm engine falcon feather ferry fiddle field flame flute forest
fountain fox galaxy garden gate glacier goblet grove guitar hammer harbor harvest hawk hedge helmet heron
hill hollow honey horizon horse island ivy jacket jasmine jewel journal kettle key kite ladder lagoon lake
lamp lantern laurel lemon library lily lion lizard lodge magnet mango maple market meadow mill mirror moon
mountain needle nest oak oasis ocean orchard otter owl palace panther paper parrot path pear pebble pepper
piano pillow pine planet plaza pond poplar prairie quarry quill rabbit raven ribbon river road robin rocket
rose saddle sail salmon sandal school shadow shell shield shore signal sparrow spider spring stable star
station stone storm stream summit swan table tavern temple thicket thunder tiger torch tower trail tulip
tunnel valley village vine violin wagon wall walnut waterfall wave wheel willow window wolf wren""".split()

VERBS = """admired borrowed carried chased cleaned copied counted covered crossed described discovered drew
examined finished followed forgot found gathered guarded held ignored kept lifted located lost measured moved
needed noticed offered opened painted passed placed praised pulled pushed reached remembered repaired
replaced returned saved searched shaped shared showed sketched sold sorted studied touched traded turned
visited watched weighed wrapped""".split()

PREPOSITIONS = """behind under beside above near beyond along across inside outside around past""".split()

FIRST_NAMES = """Aaron Abigail Adam Alice Amara Amir Andrea Anna Anton Arjun Astrid Beatrice Benjamin Bianca Boris
Bruno Camila Carlos Carmen Cecilia Chen Clara Daniel David Diego Dmitri Edith Elena Elias Emma Erik Esther
Fatima Felix Fiona Frank Gabriel Giulia Grace Gustav Hana Hannah Hassan Helen Hugo Igor Ingrid Irene Isaac
Ivan Jacob Jamal Jana Jasper Julia Kai Karen Karim Kenji Lara Laura Leila Leo Liam Linda Lucas Luna Magda
Marco Maria Martin Maya Mei Mina Mohamed Nadia Naomi Nina Noah Nora Olga Oliver Omar Oscar Otto Paula Pedro
Petra Priya Rachel Rafael Ravi Rosa Ruth Samir Samuel Sara Selma Simon Sofia Stefan Tara Theo Thomas Uma
Vera Victor Viola Wanda Xavier Yara Yusuf Zara Zoe""".split()

LAST_NAMES = """Abbott Adler Alvarez Anders Bauer Becker Bell Bianchi Blake Bond Brandt Brooks Brown Burke Carter
Castro Chang Clarke Cohen Cole Costa Cruz Dalton Diaz Doyle Drake Dubois Duarte Ellis Evans Ferrari Fischer
Fleming Flores Foster Fraser Fuchs Garcia Gibson Gomez Grant Gray Haas Hansen Hart Hayes Hoffman Holt Hughes
Ibarra Ito Jensen Johnson Jones Kaiser Keller Khan Kim King Klein Kowalski Kumar Lang Larsen Lee Lehmann
Lopez Lund Marsh Martin Mason Mendes Meyer Miller Moore Moreau Morgan Moritz Murphy Nakamura Nash Novak
Nguyen Olsen Ortiz Owens Palmer Park Patel Pereira Perry Petrov Quinn Ramos Reed Reyes Rivera Roberts Romano
Rossi Roth Russo Santos Sato Schmidt Scott Shah Silva Singh Smith Sousa Stein Stone Suzuki Tanaka Taylor
Torres Turner Vargas Vega Vogel Wagner Walsh Wang Ward Weber White Wolf Wong Wood Wright Yamada Young Zhang
Ziegler""".split()

CITIES = """Accra Adelaide Amsterdam Ankara Athens Austin Baltimore Bangkok Barcelona Bergen Berlin Bogota
Bologna Boston Brisbane Brussels Budapest Cairo Calgary Cardiff Chicago Cologne Copenhagen Dakar Dallas
Delhi Denver Dublin Durban Edinburgh Florence Frankfurt Geneva Glasgow Hamburg Hanoi Havana Helsinki
Istanbul Jakarta Kigali Kyoto Lagos Leipzig Lima Lisbon Liverpool London Lyon Madrid Malaga Manila Melbourne
Miami Milan Montreal Munich Nairobi Naples Nashville Osaka Oslo Ottawa Palermo Paris Perth Phoenix Porto
Prague Quebec Quito Riga Rome Rotterdam Santiago Seattle Seoul Seville Sofia Stockholm Sydney Taipei Tallinn
Tampa Tokyo Toronto Toulouse Trieste Tunis Turin Utrecht Valencia Vienna Vilnius Warsaw Zagreb Zurich""".split()

COMPANY_NAMES = """Northwind Contoso Fabrikam Acme Bluebird Cascade Delta Evergreen Falcon Granite Harbor Ironwood Juniper
Keystone Lakeside Meridian Nimbus Orion Pinnacle Quantum Redwood Sterling Tidewater Umbra Vertex Westlake
Yellowstone Zenith Atlas Beacon Cobalt Dynamo Eclipse Frontier Galaxy Horizon Impact Jubilee Kinetic
Lighthouse""".split()

COMPANY_KINDS = """Traders Logistics Foods Systems Energy Textiles Motors Partners Chemicals Robotics Airlines Shipping
Insurance Pharma Mining Media Software Steel Bakery Optics""".split()

MONTHS = "January February March April May June July August September October November December".split()

REASONS = ["a broken sensor", "a loose cable", "a late delivery", "a missing invoice", "an expired certificate",
           "a full disk", "a power failure", "a leaking pipe", "a wrong address", "a network outage",
           "a faulty valve", "a lost package", "an unpaid bill", "a corrupted file", "a burnt fuse", "a flat battery"]

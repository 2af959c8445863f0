/**
 * Words that pictures show: common English words of one to eight letters, chosen by hand, and
 * invented words from syllables. A fixed share is held out: training never draws those.
 */
import { type Dice, hashText } from "../dice.ts";

const list = `
a i
am an as at be by do go he if in is it me my no of on or so to up us we ox ax hi
ace act add age ago aid aim air ale all and ant any ape arc are ark arm art ash ask ate awe axe bad
bag bar bat bay bed bee beg bet big bin bit box boy bud bug bun bus but buy cab can cap car cat cow
cry cub cup cut dad day den dew did dig dim dip dog dot dry due dug dye ear eat egg ego elf elk elm
end era eve eye fan far fat fax fed fee few fig fin fir fit fix fly foe fog for fox fry fun fur gap
gas gel gem get gum gun gut guy gym had ham has hat hay hen her hid him hip his hit hop hot how hub
hug hum hut ice icy ill ink inn ion its ivy jam jar jaw jet job jog joy jug key kid kin kit lab lad
lap law lay leg let lid lie lip lit log lot low mad man map mat may men met mix mob mop mud mug nap
net new nod nor not now nut oak oar oat odd off oil old one opt orb our out owe owl own pad pan pay
pea peg pen pet pie pig pin pit pod pop pot pub put rag ram ran rat raw ray red rib rid rim rip rob
rod rot row rub rug run rye sad sap sat saw say sea see set sew she shy sin sip sit six ski sky sly
sob son spy sum sun tab tag tan tap tar tax tea ten the tie tin tip toe ton too top toy try tub two
use van vat vet vow wag war was wax way web wed wet who why wig win wit won yak yam yes yet you zip
zoo able acid aged also arch area army away baby back bake ball band bank barn base bath bead beam
bean bear beat bell belt bend best bike bird bite blue boat body bold bone book boot born both bowl
bread bulb burn bush busy cafe cage cake calf call calm camp card care cart case cash cave cell chat
chef chin city clay clip club coal coat code coin cold cook cool copy corn cost crab crew crop cube
curl dark data dawn deal dear deck deep deer desk dice dish dock door dove down draw drop drum duck
dusk dust each earn east easy echo edge else epic even ever exam exit face fact fair fall farm fast
feet fern file film find fire fish five flag flat flow foam fold folk food foot fork form four free
frog fuel full game gate gear gift girl give glad glow glue goal goat gold golf good gray grid grow
hair half hall hand hard harp hawk head heal heap heat herb hero hide high hill hint hole home honk
hood hook hope horn hour huge idea idle inch iron item jade jazz join joke jump junk jury just keen
keep kind king kite kiwi knee knot lace lake lamb lamp lane last late lawn leaf lean left lens less
life lift like lime line lion list live loaf lock loft long look loop loud love luck lung made mail
main make mane many mark mask math maze meal mean meat melt menu mild milk mill mind mine mint miss
moon more moss most moth move much mule myth nail name navy near neat neck need nest news next nice
nine node noon nose note null oath obey once only open oval oven over pace pack page pair palm park
part past path peak pear pine pink pipe plan play plot plum poem pole pond pony pool poor port post
pull pump pure push quad quay quit quiz race rack raft rail rain rare rate read real reef rest rice
rich ride ring rise road roam roar rock role roof room root rope rose ruby rule rush safe sail salt
same sand save scan seal seat seed seek self send shed ship shoe shop shot show side sign silk sing
sink site size skin slab slim slot slow snow soap sock soft soil sold sole solo some song soon sort
soul soup spin spot star stay stem step stir stop such suit surf swan swim tail tale talk tall tank
tape task taxi team tent term test text than that them then they thin this tide tile time tiny tire
toad told tone took tool torn town trap tray tree trim trip true tube tuna tune turf turn twig twin
type unit upon vase vast verb very vest view vine volt vote wait wake walk wall want warm wash wave
weak wear week well west what when whip wide wife wild will wind wine wing wire wise wish wolf wood
wool word work worm wrap yard yarn year yoga zero zone zoom about above actor adapt admit adult after
again agent agree ahead album alarm alert alien align alive allow alone alpha amber amuse angel anger
angle ankle apple april arena argue armor arrow aside asset atlas attic audio avoid awake award aware
bacon badge badly bagel baker basic basin batch beach beard beast begin being below bench berry bingo
birth black blade blame blank blaze blend bless blind block bloom board boost booth bound brain brand
brass brave break brick bride brief bring broad broom brown brush build bunch cabin cable camel canal
candy canoe cargo carry catch cause cedar chain chair chalk charm chart chase cheap check cheek chess
chest chick chief child chill choir civic claim clash class clean clear clerk click cliff climb clock
close cloth cloud clown coach coast cobra cocoa comet comic coral couch count court cover craft crane
crash cream creek crisp cross crowd crown crumb crust cubic curve cycle daily dairy daisy dance delta
dense depth diary digit diner dodge doubt dozen draft drain drama dream dress drift drill drink drive
eagle early earth eight elbow elder empty enjoy enter equal error essay event every exact extra fable
faith false fancy feast fence ferry fever fiber field fifty fight final first flame flash fleet float
flock flood floor flora flour fluid flute focus force forge forty found frame fresh frost fruit fudge
funny gauge ghost giant glass globe glory glove grace grade grain grand grape graph grass great green
greet grill group guard guess guest guide habit happy harsh haste hatch hazel heart heavy hedge hello
hinge hobby honey honor horse hotel hound house human humor hurry image index inner input irony ivory
jelly jewel joint judge juice jumbo kayak kiosk knife knock koala label large laser latch laugh layer
learn lemon level lever light limit linen liver llama lobby local logic loose lotus lower loyal lucky
lunar lunch magic major mango manor maple march match mayor medal media melon mercy merge merit metal
meter midst minor model money month moral motor mount mouse mouth movie music naval nerve never night
ninth noble noise north novel nurse ocean olive onion opera orbit order organ other otter outer owner
oxide paint panda panel paper party pasta patch pause peace peach pearl pedal penny phase phone photo
piano piece pilot pixel pizza place plain plane plant plate plaza point polar porch pouch power press
price pride print prize proud prune pulse puppy purse queen query quest queue quick quiet quilt quote
radar radio raven reach ready realm rebel relay reply rhyme ridge right river roast robin robot rocky
rough round route royal rural salad sauce scale scarf scene scent scoop score scout seven shade shape
share shark sharp sheep sheet shelf shell shine shirt shoot shore short shout sight silly skate skill
skirt slate sleep slice slide slope small smart smile smoke snack snail snake solar solid solve sound
south space spare spark speak speed spell spend spice spoon sport spray squad stack staff stage stair
stamp stand start state steam steel stick still stone store storm story stove straw strip study style
sugar sunny super sweet swift swing sword syrup table teach teeth thank theme there thick thing think
third three throw thumb tiger timer title toast today token topic torch total touch tower track trade
trail train treat trend trial tribe trick troop trout truck truly trunk trust truth tulip twice uncle
under union unite until upper urban usual valid value vapor vault video villa vinyl virus visit vivid
vocal voice wagon waist waltz water whale wheat wheel where while white whole width woman world worry
worth wrist write wrong yacht yeast yield young youth zebra animal answer anyone arctic artist autumn
bakery bamboo banana barrel basket beauty beaver before bottle bottom branch breeze bridge bright
broken bronze bubble bucket butter button cactus camera candle canvas canyon carbon carpet carrot
castle cattle cement center cereal cherry choice circle clever client clinic closet coffee colony
column copper corner cotton county cousin create credit custom danger decade defend degree desert
design detail dinner doctor dollar donkey double dragon driver eleven empire energy engine escape
export fabric family farmer father finger flight flower forest formal freeze friend frozen future
galaxy garage garden garlic gentle ginger global golden ground guitar hammer handle harbor helmet
hidden hockey hollow honest hunter impact indoor insect island jacket jigsaw jungle junior kettle
kitten knight ladder lawyer leader legend letter lizard lovely magnet marble market meadow member
memory mirror modern monkey mosaic mother motion muscle museum narrow nature needle nickel normal
notice number object office orange orchid oxygen oyster packet palace parade parent parrot pebble
pencil people pepper permit person pickle pillow pirate planet player plenty pocket poetry police
potato powder prince profit puzzle rabbit record refuge region remedy report ribbon rocket saddle
safety salmon sample school screen season secret senior shadow silver simple single sister socket
spider spirit spring square stable statue strong studio summer sunset switch symbol tablet temple
tennis theory thirty thread ticket timber tissue tomato tongue travel tunnel turtle twelve useful
valley vessel violet violin vision volume walnut wealth weapon weekly window winter wisdom wonder
wooden yellow zipper airport almanac ancient article balance balloon battery bedroom benefit bicycle
blanket brother cabinet capital captain central century ceramic chamber channel chapter chicken
circuit citizen classic climate compass concert cottage country courage crystal culture curious
cushion current diamond digital display dolphin eastern economy edition element evening example
express factory fashion feather fiction fishing foreign forever fortune freedom gallery general
giraffe glacier grocery habitat harvest healthy helpful highway history holiday horizon hundred
imagine journey justice kingdom kitchen lantern leather lecture library lobster machine manager
mineral mixture monitor morning musical mustard natural network nothing nuclear octopus opening
orchard outside package painter pancake paragon parking passion patient pattern penguin perfect
picture pilgrim plastic popular postage pottery present printer problem product program project
protein pumpkin pyramid quality quarter railway rainbow receipt regular robotic sailing sandbox
satchel science section seventy shelter shuttle silence skyline society soldier station stomach
storage student success sunrise surface teacher texture theater thunder tonight tourist traffic
trumpet uniform unknown upright vehicle version village vintage vitamin volcano warrior weather
website welcome western whisper windmill wrapper absolute accident activity aircraft airplane
alphabet anything backyard balanced baseball birthday blizzard boundary broccoli building calendar
campfire carnival champion children cinnamon clothing coconuts composer computer consider costumes
creature cucumber daughter daylight decision delivery dinosaur distance doorbell dragonfly electric
elephant envelope exercise favorite festival firewood flamingo football fountain fraction frequent
friendly gardener generous graceful grateful hallways handmade hardware headline homework hospital
icebergs industry internet juggling keyboard kindness landmark language lavender lemonade lifeboat
magazine mahogany marathon material measures medicine midnight mountain mushroom necklace negative
notebook obstacle operator ordinary original outdoors overcome painting parallel passport password
peaceful pharmacy platform pleasant position postcard powerful practice princess property quantity
question railroad raincoat research resource romantic sandwich scissors seashell security sentence
shipment shoulder sidewalk skeleton snowfall software solution spectrum squirrel standard starfish
straight strength suitcase sunlight surprise sunshine swimming symphony teamwork tomorrow together
tortoise treasure triangle tropical umbrella universe vacation valuable variable vertical vineyard
wardrobe waterway weekends wildlife woodland workshop yourself
`;

/** Held-out share of words, chosen by a hash of their letters. */
const HELD_OUT_OF = 12;

function isHeldOut(word: string): boolean {
  return word.length >= 3 && hashText(`word ${word}`) % HELD_OUT_OF === 0;
}

const all = [...new Set(list.split(/\s+/).filter((word) => /^[a-z]{1,8}$/.test(word)))];

/** Words of 1–8 lower-case letters that training may draw, and those it must not. */
export const trainedWords: readonly string[] = all.filter((word) => !isHeldOut(word));
export const heldOutWords: readonly string[] = all.filter(isHeldOut);

const onsets =
  ("b c d f g h j k l m n p r s t v w z bl br ch cl cr dr fl fr gl gr pl pr qu sh sk " +
    "sl sm sn sp st sw th tr wh x y").split(" ");
const vowels = "a e i o u a e i o u ai ea ee oa oo ou y".split(" ");
const codas = "b ck d g k l ll m n nd ng nk nt p r rd rk rm s sh ss st t x z th ft lt mp".split(
  " ",
);

/** A word that looks English and is of exactly this length. */
export function inventWord(length: number, dice: Dice): string {
  let word = "";
  while (word.length < length) {
    word += dice.pick(onsets) + dice.pick(vowels) + (dice.chance(0.55) ? dice.pick(codas) : "");
  }
  return word.slice(0, length);
}

const LETTERS = "abcdefghijklmnopqrstuvwxyz";

/** Random lower-case letters, or with `mixed` also capitals and digits that look like nothing else. */
export function randomString(length: number, dice: Dice, mixed = false): string {
  const alphabet = mixed ? `${LETTERS}ABDEFGHJKLMNQRTY23456789` : LETTERS;
  return Array.from({ length }, () => alphabet[dice.integer(0, alphabet.length - 1)]).join("");
}

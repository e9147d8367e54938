"""What following goes by: when a hand is believed, followed, given up, and looked for."""

from dataclasses import dataclass, field

from twohands.video.sides import SideConfig


@dataclass(frozen=True)
class TrackConfig:
    """When a hand is believed, followed, given up, and looked for. Sizes are the longer side of a hand's keypoints in the picture."""

    presence_new: float = 0.5
    """Least presence of a hand that comes in,"""
    presence_kept: float = 0.25
    """and of one that is followed: hands blurred by motion or hidden by the other one are still there."""
    largest_jump: float = 0.7
    """Farther from where it was expected, in sizes, a hand is not believed in the first frame (nor its size or distance, beyond a factor of 1 +
    this); nor an unsure reading ever whose size is off by that factor from the last sure one's."""
    unsure_jump: float = 0.35
    """Farther, a reading is not believed that is unsure of itself: a hidden hand is easily read from the one in front of it."""
    same_hand: float = 0.08
    """Two hands whose keypoints are nearer than this in sizes, on average, are one hand, read twice,"""
    near_hand: float = 0.25
    """and nearer than this too, if they were expected twice as far apart, or if stage 1 doubts a side and they were expected farther apart by"""
    nearer: float = 0.1
    """as much as this: a hand that hides behind another one is easily read as that one. That a side is doubted says little by itself: of a hand that
    is hardly seen beside its other one it always is."""
    coast_s: float = 0.15
    """A hand that is not believed is still looked for where it should be, so long;"""
    hidden_s: float = 0.4
    """and so long if that is behind another hand."""
    missed: int = 2
    """Not believed in more frames than this in a row, it is as good as not there where its other hand seems to be somebody else's."""
    remember_s: float = 10.0
    """So long a person without hands is expected back."""
    look_every_s: float = 0.7
    """The detector looks at least so often,"""
    look_far_s: float = 2.0
    """and so often for hands across the room, where all that are followed are larger than"""
    near_share: float = 0.06
    """this share of the picture's longer side;"""
    look_for_missing_s: float = 0.1
    """and so often while a person shows one hand or none;"""
    look_in_vain_s: float = 0.3
    """but where it found nobody new several times, the pause grows to this."""
    refused_s: float = 0.35
    """So long a detection in which stage 1 saw no hand, or none that nobody follows, is not asked about again."""
    unsure_presence: float = 0.6
    unsure_side: float = 0.3
    unsure_noise: float = 1.0
    """Below the first two of these, or above the last (the keypoints' error as stage 1 states it, in tenths of the hand's size), the detector
    looks in the next frame (but not more often than every `look_for_missing_s`)."""
    same_side: float = 3.0
    """A hand that comes in beside a hand of the same side is that person's other hand, unless the log odds for its side exceed this."""
    match_distance: float = 0.8
    """A detection nearer than this to where a hand was expected, in sizes, is that hand."""
    second_box: float = 0.3
    """One nearer than this to a hand that is plainly seen, as its person's other one is, shows that hand again."""
    glimpse_noise: float = 1.0
    """How far, in tenths of its size, a detection's middle is off the hand's. It counts where stage 1 is no surer."""
    much_surer: float = 2.0
    """A newcomer of a hand's own side that is so many times as sure of its keypoints takes its place: that hand had gone astray."""
    better_read: float = 1.25
    """One in the same place is that hand, read in another box, and takes its place if stage 1 states so many times smaller an error for it."""
    elsewhere: float = 1.5
    """Also if it is read as the other side, where the person's other hand is seen so many sizes away."""
    within: float = 0.75
    """A hand that is found within another one, and smaller than so many of its sizes, is that one, read a second time."""
    better_found: float = 1.1
    """The same of a hand that hides, read anew as a photo's is with the hand that it hides behind;"""
    found_noise: float = 1.8
    """and one that was lost there comes back if its error is stated to be below this, in tenths of its size: it is known to be there."""
    outgrown: float = 1.35
    """A hand in the open whose detection is so many times as large as its box, or as small, is read there too."""
    past_bytes: int = 48_000_000
    """Pictures of so many bytes are kept, in which hands that come in are looked for back in time: 17 frames of 720p."""
    look_again: float = 0.1
    """A hand whose box lies farther from the one that was asked about, by a corner and in sizes, is looked at again where it was found: off the
    middle of its crop it is read less well."""
    sides: SideConfig = field(default_factory=SideConfig)

"""The nightly loop lived in a simulated world, against contenders that know more or less."""

"""A retrieval data set of procedural landmarks: `spec` says what, `plan` which images, `writing` makes them.

A landmark has a `style` and is drawn once, as a texture (`landmark`); each view (`views`) is seen by a `camera`, and
`render` puts it into a scenery with light, weather and what stands in the way.
"""

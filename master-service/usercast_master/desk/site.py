"""The desk: the admin's site, where admins look after users and see changes on their way."""

from unfold.sites import UnfoldAdminSite


class Desk(UnfoldAdminSite):
    """Django's admin in Unfold's theme."""

    site_header = site_title = "Usercast master"
    index_title = "At a glance"
